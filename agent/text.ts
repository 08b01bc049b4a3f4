/** C0 and C1 controls, line separators, direction marks: all that can make a line read as something else. */
const UNSAFE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the point
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/g

/** Text from elsewhere as it may stand in one line of a log or a terminal. */
export function printable(text: string, max = 300): string {
  const clean = text.replace(UNSAFE, ' ')
  return clean.length > max ? `${clean.slice(0, max)}…` : clean
}

/** A length of time for a person: `350 ms`, `2.3 s`, `10 s`, `4 min`, `3 h`. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${Number((ms / 1_000).toFixed(1))} s`
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} min`
  return `${Number((ms / 3_600_000).toFixed(1))} h`
}

/** The heart of an error in one line; a refused connection says so by its code alone. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return printable(String(error))
  const code = (error as NodeJS.ErrnoException).code
  if (error.message === '') return code ?? error.name
  return printable(code && !error.message.includes(code) ? `${error.message} (${code})` : error.message)
}
