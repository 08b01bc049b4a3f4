import { execFile } from 'node:child_process'
import type { Scope } from '../service/layout.ts'
import { type Finding, ok, skip, warn } from './report.ts'

const TIMEOUT_MS = 3_000

/** What `systemctl is-active` says of a unit, or undefined where there is no systemd; with `--user` of the user's own. */
export type AskService = (unit: string, own: readonly string[]) => Promise<string | undefined>

export const askSystemd: AskService = (unit, own) =>
  new Promise((resolve) => {
    execFile('systemctl', [...own, 'is-active', unit], { timeout: TIMEOUT_MS }, (error, out) => {
      const word = out.trim().split('\n')[0]
      // It exits with 3 or 4 for a unit that does not run; with nothing on its output it could not ask.
      resolve(word === '' || (error as NodeJS.ErrnoException | null)?.code === 'ENOENT' ? undefined : word)
    })
  })

/** The state of the agent's service, beside what the agent itself says. */
export async function lookAtService(
  unit: string,
  scope: Scope,
  isRunning: boolean,
  ask: AskService,
): Promise<Finding> {
  const check = 'service'
  const own = scope === 'user' ? ['--user'] : []
  const flag = own.map((word) => ` ${word}`).join('')
  const state = await ask(unit, own)
  if (state === undefined) return skip(check, 'there is no systemd to ask')
  if (state === 'active') return ok(check, `${unit} is active`)
  if (state === 'failed' || state === 'activating')
    return warn(
      check,
      `${unit} is ${state}`,
      `see why: journalctl${flag} -u ${unit} -n 50; then: systemctl${flag} restart ${unit}`,
    )
  if (isRunning) return skip(check, `${unit} is ${state}: the agent was started by something else`)
  return warn(
    check,
    `${unit} is ${state}, and no agent runs`,
    `start it: systemctl${flag} enable --now ${unit}; or install it: beacon agent install${flag}`,
  )
}
