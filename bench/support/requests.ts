import autocannon from 'autocannon'
import { quantile } from './measure.ts'

export interface Requested {
  readonly count: number
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
}

interface Options {
  readonly url: string
  readonly connections: number
  readonly seconds: number
  readonly headers: Readonly<Record<string, string>>
}

/** Asks for one address over and over, on each connection again as soon as it was answered. */
export async function requestsFor({ url, connections, seconds, headers }: Options): Promise<Requested> {
  // Autocannon itself keeps whole milliseconds only.
  const timesMs: number[] = []
  const result = await new Promise<{ failed: number; duration: number }>((resolve, reject) => {
    const running = autocannon(
      { url, connections, duration: seconds, headers },
      (error, { duration, ...end }) =>
        error ? reject(error) : resolve({ failed: end.errors + end.timeouts + end.non2xx, duration }),
    )
    running.on('response', (_client, _status, _bytes, timeMs: number) => timesMs.push(timeMs))
  })
  if (result.failed > 0) throw new Error(`${result.failed} requests for ${url} failed`)
  const sorted = Float64Array.from(timesMs).sort()
  return {
    count: sorted.length,
    seconds: result.duration,
    p50Ms: quantile(sorted, 0.5),
    p99Ms: quantile(sorted, 0.99),
  }
}
