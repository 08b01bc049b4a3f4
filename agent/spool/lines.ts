import { crc32 } from 'node:zlib'

/**
 * What a segment file is made of: lines of text, each behind the checksum of its owner and itself. A line that was torn or
 * damaged ends at the next line break, so that all others are found again; one of another owner is as good as damaged.
 */
export type Line =
  /** The first of each file: what was lost so far, of that what was told, and below which number all is forgotten. */
  | { readonly kind: 'head'; readonly dropped: number; readonly told: number; readonly floor: number }
  | { readonly kind: 'entry'; readonly no: number; readonly text: string }
  | { readonly kind: 'acknowledged'; readonly from: number; readonly to: number }
  | { readonly kind: 'told'; readonly told: number }

const SUM_LENGTH = 8

export function encodeLine(owner: string, line: Line): Buffer {
  const body = bodyOf(line)
  return Buffer.from(`${sumOf(owner, body)} ${body}\n`)
}

/** Reads a line without its break; undefined: it is damaged. */
export function decodeLine(owner: string, text: string): Line | undefined {
  const body = text.slice(SUM_LENGTH + 1)
  if (text[SUM_LENGTH] !== ' ' || text.slice(0, SUM_LENGTH) !== sumOf(owner, body)) return undefined
  const [kind, first, second, third] = body.split(' ', 4)
  switch (kind) {
    case 'h':
      return numbered([first, second, third], ([dropped, told, floor]) => ({
        kind: 'head',
        dropped: dropped!,
        told: told!,
        floor: floor!,
      }))
    case 'e':
      return numbered([first], ([no]) => ({
        kind: 'entry',
        no: no!,
        text: body.slice(kind.length + first!.length + 2),
      }))
    case 'a':
      return numbered([first, second], ([from, to]) => ({ kind: 'acknowledged', from: from!, to: to! }))
    case 't':
      return numbered([first], ([told]) => ({ kind: 'told', told: told! }))
    default:
      return undefined
  }
}

function bodyOf(line: Line): string {
  switch (line.kind) {
    case 'head':
      return `h ${line.dropped} ${line.told} ${line.floor}`
    case 'entry':
      // In JSON a line break is nothing but space.
      return `e ${line.no} ${line.text.replaceAll('\n', ' ')}`
    case 'acknowledged':
      return `a ${line.from} ${line.to}`
    case 'told':
      return `t ${line.told}`
  }
}

function sumOf(owner: string, body: string): string {
  return crc32(`${owner}\n${body}`).toString(16).padStart(SUM_LENGTH, '0')
}

function numbered(
  texts: readonly (string | undefined)[],
  build: (numbers: readonly number[]) => Line,
): Line | undefined {
  const numbers = texts.map(Number)
  return texts.every((text) => text) && numbers.every(Number.isSafeInteger) ? build(numbers) : undefined
}
