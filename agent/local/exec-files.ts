import { lstatSync, readdirSync, type Stats } from 'node:fs'
import { join } from 'node:path'
import { describeError } from '../text.ts'

/** One program of the exec folder. */
export interface ExecFile {
  readonly name: string
  readonly path: string
  readonly everyMs: number
}

export interface ExecFolder {
  readonly files: readonly ExecFile[]
  /** What is there and is not run, and why. */
  readonly skipped: readonly { readonly name: string; readonly why: string }[]
}

export const MAX_EXEC_FILES = 32
const MIN_EVERY_MS = 1_000
const MAX_EVERY_MS = 86_400_000
/** Letters that no shell or terminal could take for something else, and not what editors and packages leave behind. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
const LEFT_BEHIND = /(\.bak|\.orig|\.disabled|\.swp|\.tmp|\.dpkg-[a-z]+|\.rpm[a-z]+)$/
const EVERY = /^(\d{1,6})(s|m|h)-/
const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000 } as const
const WRITABLE_BY_OTHERS = 0o022
const EXECUTABLE = 0o111

/** How often a file is run: by its name, as in `30s-arm` or `5m-disk.sh`, else as the setting says. */
export function intervalIn(name: string, defaultMs: number): number {
  const found = EVERY.exec(name)
  const ms = found ? Number(found[1]) * UNIT_MS[found[2] as keyof typeof UNIT_MS] : defaultMs
  return Math.min(MAX_EVERY_MS, Math.max(MIN_EVERY_MS, ms))
}

/**
 * The programs in a folder that may be run: plain executable files of root or of the agent's own user that nobody else
 * can write. The same holds for the folder, for whoever can write that can put another file in one's place.
 */
export function readExecFolder(folder: string, defaultMs: number, ownUid: number | undefined): ExecFolder {
  let names: string[]
  try {
    const wrong = distrust(lstatSync(folder), ownUid)
    if (wrong) return { files: [], skipped: [{ name: folder, why: `the folder ${wrong}` }] }
    names = readdirSync(folder).sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { files: [], skipped: [] }
    return { files: [], skipped: [{ name: folder, why: describeError(error) }] }
  }
  const files: ExecFile[] = []
  const skipped: { name: string; why: string }[] = []
  for (const name of names) {
    if (!NAME.test(name) || LEFT_BEHIND.test(name)) continue
    const path = join(folder, name)
    const why = whyNot(path, ownUid)
    if (why === 'not a program') continue
    if (why) skipped.push({ name, why })
    else if (files.length >= MAX_EXEC_FILES)
      skipped.push({ name, why: `more than ${MAX_EXEC_FILES} programs` })
    else files.push({ name, path, everyMs: intervalIn(name, defaultMs) })
  }
  return { files, skipped: skipped.slice(0, MAX_EXEC_FILES) }
}

/** Why the file must not be run; looked at again right before each run. */
export function whyNot(path: string, ownUid: number | undefined): string | undefined {
  try {
    const stats = lstatSync(path)
    if (stats.isSymbolicLink()) return 'is a symbolic link'
    if (!stats.isFile() || (stats.mode & EXECUTABLE) === 0) return 'not a program'
    return distrust(stats, ownUid)
  } catch (error) {
    return describeError(error)
  }
}

function distrust(stats: Stats, ownUid: number | undefined): string | undefined {
  if (stats.isSymbolicLink()) return 'is a symbolic link'
  if (ownUid === undefined) return undefined
  if (stats.uid !== 0 && stats.uid !== ownUid) return 'belongs to another user'
  return (stats.mode & WRITABLE_BY_OTHERS) === 0 ? undefined : 'can be written by other users'
}
