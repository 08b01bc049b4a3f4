const UNITS = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
  ['s', 1],
] as const

/** `3 min`, `2 h 5 min`; seconds. */
export function duration(seconds: number): string {
  const rest = Math.max(0, Math.floor(seconds))
  const at = UNITS.findIndex(([, size]) => rest >= size)
  if (at < 0) return '0 s'
  const [unit, size] = UNITS[at]!
  const next = UNITS[at + 1]
  const left = next && unit !== 'min' ? Math.floor((rest % size) / next[1]) : 0
  return `${Math.floor(rest / size)} ${unit}${left > 0 ? ` ${left} ${next![0]}` : ''}`
}
