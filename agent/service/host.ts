import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Environment } from '../settings.ts'
import type { Scope } from './layout.ts'

/** The machine, or the image of one, that a service is installed on. */
export interface ServiceHost {
  /** Folder that its paths begin in; `/` for this machine itself. */
  readonly root: string
  readonly uid: number
  /** Of the user who asks. */
  readonly home: string
  readonly env: Environment
  /** Whether a systemd runs that can be told of the service. */
  isRunningSystemd(scope: Scope): boolean
  /** Runs a program to its end. */
  run(command: readonly string[]): CommandOutcome
}

export interface CommandOutcome {
  /** Undefined: it is not there, or was killed. */
  readonly code: number | undefined
  readonly out: string
  readonly err: string
}

const COMMAND_TIMEOUT_MS = 60_000

/** This machine, or the image below `root`. */
export function thisHost(of: {
  readonly root: string
  readonly uid: number
  readonly home: string
  readonly env: Environment
}): ServiceHost {
  const { root, env } = of
  return {
    ...of,
    isRunningSystemd(scope) {
      if (root !== '/' || !existsSync('/run/systemd/system')) return false
      const { XDG_RUNTIME_DIR } = env
      return (
        scope === 'system' || (XDG_RUNTIME_DIR !== undefined && existsSync(join(XDG_RUNTIME_DIR, 'systemd')))
      )
    },
    run: (command) => runIn(env, command),
  }
}

/** Runs a program with this environment, found by its PATH. */
export function runIn(env: Environment, [program, ...args]: readonly string[]): CommandOutcome {
  const ended = spawnSync(program!, args, {
    env: { ...env, LC_ALL: 'C' },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: COMMAND_TIMEOUT_MS,
  })
  const err = ended.error ? ended.error.message : ended.stderr
  return { code: ended.status ?? undefined, out: ended.stdout ?? '', err: err ?? '' }
}

/** Where a path of the host lies for this process. */
export function pathOn(host: ServiceHost, path: string): string {
  return join(host.root, path)
}

/** Of the host's systemd; undefined where it cannot be asked. */
export function systemdVersion(host: ServiceHost): number | undefined {
  const found = /^systemd (\d+)/.exec(host.run(['systemctl', '--version']).out)
  return found ? Number(found[1]) : undefined
}
