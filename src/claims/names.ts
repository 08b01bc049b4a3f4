import { displayName } from '../protocol/text.ts'

const MAX_LENGTH = 63
const nameSchema = displayName(MAX_LENGTH)
// Every control, format and unpaired character, and the two separators that break lines.
const UNFIT = /[\p{C}\u2028\u2029]/gu

/** Cuts to a length without leaving half a character or a space at the end. */
function cut(text: string, length: number): string {
  if (text.length <= length) return text
  const short = text.slice(0, length)
  return (short.isWellFormed() ? short : short.slice(0, -1)).trimEnd()
}

/** The name a robot gets when none was asked for: its host's, or one made from its id. */
export function defaultName(hostname: string | undefined, robotId: string): string {
  const cleaned = cut((hostname ?? '').replace(UNFIT, '').trim(), MAX_LENGTH)
  // The end of a UUIDv7 is its random part.
  return nameSchema.safeParse(cleaned).success ? cleaned : `robot-${robotId.slice(-8)}`
}

function suffixed(name: string, suffix: string): string {
  return `${cut(name, MAX_LENGTH - suffix.length - 1)}-${suffix}`
}

/** What to try when a name is taken: -2 to -9, then ends of the robot's id. */
export function otherNames(name: string, robotId: string): string[] {
  const suffixes = ['2', '3', '4', '5', '6', '7', '8', '9', robotId.slice(-6), robotId.slice(-12)]
  return suffixes.map((suffix) => suffixed(name, suffix))
}

/**
 * The names that may come up for claims in this order, besides the wished ones themselves, once it is known which of
 * those are taken. Never too few: what cannot be excluded is counted in.
 */
export function furtherNames(
  claims: readonly { readonly name: string; readonly robotId: string }[],
  taken: Iterable<string>,
): string[] {
  const maybeTaken = new Set(taken)
  const further = new Set<string>()
  for (const { name, robotId } of claims) {
    if (!maybeTaken.has(name)) {
      maybeTaken.add(name)
      continue
    }
    for (const other of otherNames(name, robotId)) {
      maybeTaken.add(other)
      further.add(other)
    }
  }
  return [...further]
}
