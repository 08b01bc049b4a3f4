import type { Exposition } from './exposition.ts'

interface MediaRange {
  readonly type: string
  readonly version: string | undefined
  /** 0 to 1: how much it is wanted; 0: not at all. */
  readonly quality: number
}

/** What `Accept` lists. What is no media range is left out. */
function mediaRanges(accept: string): MediaRange[] {
  return accept.split(',').flatMap((part) => {
    const [type = '', ...parameters] = part.split(';').map((piece) => piece.trim().toLowerCase())
    if (!/^[^/\s]+\/[^/\s]+$/.test(type)) return []
    const of = (name: string) =>
      parameters
        .map((parameter) => /^([^=\s]+)\s*=\s*"?([^"]*)"?$/.exec(parameter))
        .find((found) => found?.[1] === name)?.[2]
    const quality = of('q')
    if (quality !== undefined && !/^(0(\.\d{0,3})?|1(\.0{0,3})?)$/.test(quality)) return []
    return [{ type, version: of('version'), quality: quality === undefined ? 1 : Number(quality) }]
  })
}

/** How much the type is wanted, by the range that names it most exactly. */
function qualityOf(ranges: readonly MediaRange[], type: string, version: string): number {
  const exactness = (range: MediaRange) => {
    if (range.type === type) return range.version === undefined ? 2 : range.version === version ? 3 : -1
    if (range.type === `${type.split('/')[0]}/*`) return range.version === undefined ? 1 : -1
    return range.type === '*/*' ? 0 : -1
  }
  const [best] = ranges
    .map((range) => ({ quality: range.quality, exactness: exactness(range) }))
    .filter((range) => range.exactness >= 0)
    .sort((one, other) => other.exactness - one.exactness || other.quality - one.quality)
  return best?.quality ?? 0
}

/** Longer headers are no scraper's. */
const MAX_ACCEPT_LENGTH = 2_048

/**
 * The format that the `Accept` of a scrape asks for. OpenMetrics only where it is named, and wanted no less than the text
 * format, which is for everybody else: also for those who accept neither, as Prometheus's own servers have it.
 */
export function chooseExposition(accept: string | undefined): Exposition {
  if (accept === undefined || accept.length > MAX_ACCEPT_LENGTH) return 'text'
  const ranges = mediaRanges(accept)
  const named = ranges.filter(({ type }) => type === 'application/openmetrics-text')
  const wanted = qualityOf(named, 'application/openmetrics-text', '1.0.0')
  return wanted > 0 && wanted >= qualityOf(ranges, 'text/plain', '0.0.4') ? 'openmetrics' : 'text'
}
