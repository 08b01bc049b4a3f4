import { accessSync, constants, readdirSync, statfsSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Places } from '../places.ts'
import { type AgentState, EMPTY_STATE } from '../state.ts'
import { readStateFile } from '../state-file.ts'
import { describeError } from '../text.ts'
import { type Finding, fail, ok, skip, warn } from './report.ts'

const MB = 1_000_000
/** Below this the ring of unsent heartbeats, and the next version, may find no place. */
const LITTLE_BYTES = 200 * MB
const NO_BYTES = 20 * MB
const LITTLE_INODES = 1_000

/** agent.toml as it is on the disk. Unlike the agent it mends nothing: whoever looks must not change what is there. */
export function lookAtIdentity(
  places: Places,
  mayMeanOther = false,
): { readonly state: AgentState; readonly finding: Finding } {
  const check = 'identity'
  const current = readStateFile(places.config)
  const previous = readStateFile(places.backup)
  // A file that may not be read is no reason to go back to what was before it: the agent does not, either.
  const found = current.kind === 'state' || current.kind === 'closed' ? current : previous
  const state = found.kind === 'state' ? found.state : undefined
  if (current.kind === 'absent' && previous.kind === 'absent')
    return {
      state: EMPTY_STATE,
      finding: warn(
        check,
        mayMeanOther
          ? 'this user has no agent; that of this machine is a service, and only root can look at it'
          : `this robot is not enrolled: there is no ${places.config}`,
        mayMeanOther
          ? 'run this as root: sudo beacon agent doctor'
          : 'start it with an enrollment key: beacon agent run --enrollment-key …',
      ),
    }
  if (state === undefined)
    return {
      state: EMPTY_STATE,
      finding: fail(
        check,
        `${places.config} ${faultIn(current)}`,
        'run this as the user that the agent runs as; if the file is damaged, restore it, or run "beacon agent forget" and enrol again',
      ),
    }
  if (current.kind !== 'state')
    return {
      state,
      finding: warn(
        check,
        `${places.config} ${faultIn(current)}; its copy ${places.backup} can be used`,
        'nothing: the agent goes on with the copy and writes the file anew. If it happens again, the disk may be failing',
      ),
    }
  const { identity } = state
  if (!identity)
    return {
      state,
      finding: warn(
        check,
        `this robot is not enrolled yet: ${places.config} holds no identity`,
        'start it with an enrollment key: beacon agent run --enrollment-key …',
      ),
    }
  return { state, finding: ok(check, `${identity.name} (id ${identity.robotId}), of ${identity.server}`) }
}

function faultIn(found: ReturnType<typeof readStateFile>): string {
  return 'why' in found ? `cannot be used: ${found.why}` : 'is gone'
}

/** Whether the robot's secrets are its own, and whether it can write what it has to. */
export function lookAtFiles(places: Places): Finding[] {
  const check = 'files'
  const files = [...new Set([places.config, places.backup, ...stateFiles(places)])]
  const findings = files.flatMap((path) => [...faultOfFile(check, path)])
  const folders = [...new Set([dirname(places.config), places.stateDir])]
  for (const folder of folders) {
    const fault = faultOfFolder(folder)
    if (fault) findings.push(fail(check, ...fault))
  }
  return findings.length > 0
    ? findings
    : [ok(check, `${places.config} and ${places.stateDir} are the robot's own`)]
}

function stateFiles({ stateDir, stem }: Places): string[] {
  try {
    return readdirSync(stateDir)
      .filter((name) => name.startsWith(stem) && !name.endsWith('.sock'))
      .map((name) => join(stateDir, name))
  } catch {
    return []
  }
}

function* faultOfFile(check: string, path: string): Generator<Finding> {
  const found = statSync(path, { throwIfNoEntry: false })
  // Folders beside them, as that of the robot's own programs, are for others to read.
  if (!found?.isFile()) return
  const { mode, uid } = found
  if ((mode & 0o077) !== 0)
    yield fail(
      check,
      `other users may read or change ${path} (mode ${(mode & 0o777).toString(8).padStart(4, '0')})`,
      `chmod 600 ${path}; if others may have read it, have the robot's token rotated`,
    )
  const own = process.getuid?.()
  if (own !== undefined && own !== 0 && uid !== own)
    yield warn(
      check,
      `${path} belongs to user ${uid}, and this runs as user ${own}`,
      'run the agent and this as one user, or give it the file: chown',
    )
}

function faultOfFolder(folder: string): [message: string, remedy: string] | undefined {
  try {
    accessSync(folder, constants.W_OK | constants.X_OK)
    return undefined
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    if (code === 'EROFS')
      return [
        `${folder} is on a file system that cannot be written`,
        'mount it for writing; a system that did so by itself has found an error on the disk: see dmesg',
      ]
    return [
      `${folder} cannot be written by this user (${code})`,
      `run this as the user that the agent runs as, or: chown -R ${process.getuid?.() ?? ''} ${folder}`,
    ]
  }
}

/** Room on the disk that the agent's files are on. */
export function lookAtDisk(places: Places): Finding[] {
  const check = 'disk'
  let folder = places.stateDir
  for (;;) {
    try {
      return [judgeRoom(check, folder, statfsSync(folder))]
    } catch (error) {
      const above = dirname(folder)
      if (above === folder) return [skip(check, `cannot be looked at: ${describeError(error)}`)]
      // Not made yet: what it will be made in counts.
      folder = above
    }
  }
}

export interface Room {
  readonly bsize: number
  readonly bavail: number
  /** 0 in both: this file system counts no files. */
  readonly files: number
  readonly ffree: number
}

export function judgeRoom(check: string, folder: string, room: Room): Finding {
  const bytes = room.bsize * room.bavail
  const free = `${Math.floor(bytes / MB)} MB are free at ${folder}`
  const clear = 'make room: journalctl --vacuum-size=100M, apt-get clean, old logs and images'
  if (bytes < NO_BYTES) return fail(check, `only ${free}`, clear)
  if (room.files > 0 && room.ffree === 0)
    return fail(
      check,
      `no more files can be made at ${folder} (inodes are used up)`,
      'remove folders with very many small files',
    )
  if (bytes < LITTLE_BYTES) return warn(check, `only ${free}`, clear)
  if (room.files > 0 && room.ffree < LITTLE_INODES)
    return warn(
      check,
      `only ${room.ffree} more files can be made at ${folder}`,
      'remove folders with very many small files',
    )
  return ok(check, room.files > 0 ? `${free}, and place for ${room.ffree} more files` : free)
}
