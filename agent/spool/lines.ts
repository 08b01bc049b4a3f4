import { crc32 } from 'node:zlib'
import { z } from 'zod'

/** The first and the last of what was lost, as they are labelled; absent where that could not be read any more. */
const spanSchema = z.object({ first: z.string().optional(), last: z.string().optional() })

const lossesSchema = z.object({
  /** Entries lost so far, and of these, those that somebody was told of. */
  dropped: z.number().int().min(0),
  told: z.number().int().min(0),
  /** Of those that are in no report yet. */
  span: spanSchema,
  /** Who asks for it once more gets the same one, until it has arrived. */
  report: z.object({ id: z.string().min(1), through: z.number().int().min(0), span: spanSchema }).optional(),
})

/** What a ring lost, and what is known of that elsewhere. */
export type Losses = Readonly<z.infer<typeof lossesSchema>>
export type Span = Readonly<z.infer<typeof spanSchema>>

export const NO_LOSSES: Losses = { dropped: 0, told: 0, span: {} }

/**
 * What a segment file is made of: lines of text, each behind the checksum of its owner and itself. A line that was torn or
 * damaged ends at the next line break, so that all others are found again; one of another owner is as good as damaged.
 */
export type Line =
  /** The first of each file: below which number all is forgotten, and what was lost so far. */
  | { readonly kind: 'head'; readonly floor: number; readonly losses: Losses }
  | { readonly kind: 'entry'; readonly no: number; readonly text: string }
  | { readonly kind: 'acknowledged'; readonly from: number; readonly to: number }
  | { readonly kind: 'losses'; readonly losses: Losses }
  /** So many damaged lines of a file are among the losses. */
  | { readonly kind: 'damage'; readonly file: number; readonly lines: number }

const SUM_LENGTH = 8

export function encodeLine(owner: string, line: Line): Buffer {
  const body = bodyOf(line)
  return Buffer.from(`${sumOf(owner, body)} ${body}\n`)
}

/** Reads a line without its break; undefined: it is damaged. */
export function decodeLine(owner: string, text: string): Line | undefined {
  const body = text.slice(SUM_LENGTH + 1)
  if (text[SUM_LENGTH] !== ' ' || text.slice(0, SUM_LENGTH) !== sumOf(owner, body)) return undefined
  const [kind, first, second] = body.split(' ', 3)
  const behind = (words: readonly (string | undefined)[]) => body.slice(words.join(' ').length + 1)
  switch (kind) {
    case 'h':
      return withLosses(behind([kind, first]), (losses) =>
        numbered([first], ([floor]) => ({ kind: 'head', floor: floor!, losses })),
      )
    case 'e':
      return numbered([first], ([no]) => ({ kind: 'entry', no: no!, text: behind([kind, first]) }))
    case 'a':
      return numbered([first, second], ([from, to]) => ({ kind: 'acknowledged', from: from!, to: to! }))
    case 'l':
      return withLosses(behind([kind]), (losses) => ({ kind: 'losses', losses }))
    case 'd':
      return numbered([first, second], ([file, lines]) => ({ kind: 'damage', file: file!, lines: lines! }))
    default:
      return undefined
  }
}

/** Whether a damaged line was an entry, as far as one can tell: it was, unless it still looks like something else. */
export function wasEntry(text: string): boolean {
  return !/^.{8} [hald] /.test(text)
}

/** The number of a damaged entry, if that can still be read. */
export function numberIn(text: string): number | undefined {
  const digits = /^.{8} e (\d{1,15}) /.exec(text)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

function bodyOf(line: Line): string {
  switch (line.kind) {
    case 'head':
      return `h ${line.floor} ${JSON.stringify(line.losses)}`
    case 'entry':
      // In JSON a line break is nothing but space.
      return `e ${line.no} ${line.text.replaceAll('\n', ' ')}`
    case 'acknowledged':
      return `a ${line.from} ${line.to}`
    case 'losses':
      return `l ${JSON.stringify(line.losses)}`
    case 'damage':
      return `d ${line.file} ${line.lines}`
  }
}

function withLosses(text: string, build: (losses: Losses) => Line | undefined): Line | undefined {
  try {
    const { data } = lossesSchema.safeParse(JSON.parse(text))
    return data && build(data)
  } catch {
    return undefined
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
