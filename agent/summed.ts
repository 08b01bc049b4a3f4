import { crc32 } from 'node:zlib'

/** A line of text behind its checksum: what is left of it, or was changed, is never taken for another text. */
export function withSum(text: string): string {
  return `${sumOf(text)} ${text}\n`
}

/** The text of such a line; undefined: it is none, or damaged. */
export function withoutSum(line: string): string | undefined {
  const [, sum, text] = /^([0-9a-f]{8}) ([^\n]*)\n$/.exec(line) ?? []
  return text !== undefined && sum === sumOf(text) ? text : undefined
}

function sumOf(text: string): string {
  return crc32(text).toString(16).padStart(8, '0')
}
