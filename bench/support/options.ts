import { parseArgs } from 'node:util'

type Value = number | string | boolean

/** Reads `--name value` for each default, whose type says what is taken; a name may be `--no-…` when it is a switch. */
export function readOptions<Defaults extends Readonly<Record<string, Value>>>(
  defaults: Defaults,
): {
  [Name in keyof Defaults]: Defaults[Name] extends number
    ? number
    : Defaults[Name] extends boolean
      ? boolean
      : string
} {
  const { values } = parseArgs({
    args: process.argv.slice(3),
    allowNegative: true,
    options: Object.fromEntries(
      Object.entries(defaults).map(([name, value]) => [
        name,
        { type: typeof value === 'boolean' ? ('boolean' as const) : ('string' as const) },
      ]),
    ),
  })
  const read = Object.entries(defaults).map(([name, value]) => {
    const given = values[name]
    if (given === undefined || typeof value !== 'number') return [name, given ?? value]
    const number = Number(given)
    if (!Number.isFinite(number) || number < 0) throw new Error(`--${name} takes a number`)
    return [name, number]
  })
  return Object.fromEntries(read)
}

/** The options as they were given, for the command that a report names. */
export const optionsGiven = process.argv.slice(3).join(' ')
