import type { NUMERIC_FIELDS } from '../../../../src/history/tally.ts'

/** What a number of a heartbeat is called, and how it is written. */
export interface FieldKind {
  readonly name: string
  readonly unit: string
  /** By how much what was told is multiplied to be shown. */
  readonly factor: number
  /** Between which values, as shown, it always lies; charts show all of it. */
  readonly bounds?: readonly [number, number]
  readonly decimals: number
}

const ratio = (name: string): FieldKind => ({ name, unit: '%', factor: 100, bounds: [0, 100], decimals: 0 })
const plain = (name: string, unit = '', decimals = 2): FieldKind => ({ name, unit, factor: 1, decimals })

const KNOWN: Readonly<Record<(typeof NUMERIC_FIELDS)[number], FieldKind>> = {
  'battery.charge': ratio('Battery'),
  'battery.voltage': plain('Battery voltage', 'V'),
  'system.cpu': ratio('CPU'),
  'system.memory': ratio('Memory'),
  'system.disk': ratio('Disk'),
  'system.temperature_c': plain('Temperature', '°C', 1),
  'system.load_1m': plain('Load, 1 min'),
  'system.uptime_s': { name: 'Uptime', unit: 'h', factor: 1 / 3_600, decimals: 1 },
  'pose.x': plain('Position x', 'm'),
  'pose.y': plain('Position y', 'm'),
  'pose.theta': plain('Heading', 'rad'),
  'pose.lat': plain('Latitude', '°', 6),
  'pose.lon': plain('Longitude', '°', 6),
}

export function kindOf(field: string): FieldKind {
  if (Object.hasOwn(KNOWN, field)) return KNOWN[field as keyof typeof KNOWN]
  return plain(field.replace(/^metrics\./, ''), '', 3)
}

const ORDER = Object.keys(KNOWN)

/** Fields as people look for them: the well-known ones, the robot's own metrics, the rest. */
export function inOrder(fields: Iterable<string>): string[] {
  const rank = (field: string) => {
    const at = ORDER.indexOf(field)
    return at >= 0 ? at : field.startsWith('metrics.') ? ORDER.length : ORDER.length + 1
  }
  return [...new Set(fields)].sort(
    (one, other) => rank(one) - rank(other) || (one < other ? -1 : one > other ? 1 : 0),
  )
}

const USUAL = ['battery.charge', 'system.cpu', 'system.memory', 'system.temperature_c']
const MOST_USUAL = 6
/** What one question of the REST interface may ask for. */
export const MOST_CHOSEN = 32

/** What is drawn where nobody chose anything: what matters of every robot, and the first of its own metrics. */
export function usualOf(known: readonly string[]): string[] {
  const own = known.filter((field) => field.startsWith('metrics.'))
  return [...USUAL.filter((field) => known.includes(field)), ...own].slice(0, MOST_USUAL)
}

const PATH = /^[A-Za-z0-9_][\w-]{0,62}(\.[A-Za-z0-9_][\w-]{0,62}){0,4}$/

/** The fields of an address; undefined where it names none. What is no field is left out. */
export function chosenOf(search: URLSearchParams): string[] | undefined {
  const text = search.get('fields')
  if (text === null) return undefined
  return inOrder(text.split(',').filter((field) => PATH.test(field))).slice(0, MOST_CHOSEN)
}

/** Every number in a heartbeat, by its dotted path. What only says which heartbeat it is, is none of them. */
export function numbersIn(heartbeat: Readonly<Record<string, unknown>>): Map<string, number> {
  const found = new Map<string, number>()
  const look = (value: unknown, path: string) => {
    if (typeof value === 'number' && Number.isFinite(value) && PATH.test(path)) found.set(path, value)
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return
    for (const [name, inner] of Object.entries(value)) look(inner, `${path}.${name}`)
  }
  for (const part of ['battery', 'pose', 'system', 'network', 'metrics']) look(heartbeat[part], part)
  return found
}

const formats = new Map<number, Intl.NumberFormat>()

/** Making one is slow, and tables write thousands of numbers. */
function formatOf(decimals: number): Intl.NumberFormat {
  const known = formats.get(decimals)
  if (known) return known
  const format = new Intl.NumberFormat(undefined, { maximumFractionDigits: decimals })
  formats.set(decimals, format)
  return format
}

/** A number as people read it: `71 %`. */
export function formatNumber(field: string, value: number): string {
  const { factor, unit, decimals } = kindOf(field)
  const shown = value * factor
  const size = Math.abs(shown)
  const text =
    size >= 1e9 || (size > 0 && size < 10 ** -decimals / 2)
      ? shown.toExponential(2)
      : formatOf(decimals).format(shown)
  return unit === '' ? text : `${text} ${unit}`
}

/** The numbers beside a chart. */
export function formatTick(field: string, value: number): string {
  if (kindOf(field).unit === '%') return `${value} %`
  const size = Math.abs(value)
  return size !== 0 && (size >= 1e6 || size < 1e-4)
    ? value.toExponential(1)
    : value.toLocaleString(undefined, { maximumSignificantDigits: 6 })
}
