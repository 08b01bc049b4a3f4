import { readdir, readFile } from 'node:fs/promises'

/** The text of a file under /proc or /sys, trimmed; undefined when there is none. */
export async function readText(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch {
    return undefined
  }
}

/** The whole number that a file under /sys holds. */
export async function readNumber(path: string): Promise<number | undefined> {
  const text = await readText(path)
  return text !== undefined && /^-?\d+$/.test(text) ? Number(text) : undefined
}

/** Names in a folder, sorted; none when there is no such folder. */
export async function namesIn(path: string): Promise<string[]> {
  try {
    return (await readdir(path)).sort()
  } catch {
    return []
  }
}
