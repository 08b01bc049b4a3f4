import { connect } from 'node:net'
import { startRelay } from '../support/relay.ts'

/** Stands between a robot and the server, hears what the robot says, and can keep the answers back. */
export interface WireTap {
  readonly url: string
  /** What robots sent since it was cleared last, as Latin-1. */
  readonly heard: string
  /** How many pieces of it arrived. */
  readonly pieces: number
  clear(): void
  holdAnswers(hold: boolean): void
  stop(): Promise<void>
}

export async function startWireTap(serverUrl: string): Promise<WireTap> {
  const { hostname, port } = new URL(serverUrl)
  let heard = ''
  let pieces = 0
  let holding = false
  const relay = await startRelay({
    reach: () => connect(Number(port), hostname),
    fromClient({ upstream }, chunk) {
      heard += chunk.toString('latin1')
      pieces += 1
      upstream.write(chunk)
    },
    fromUpstream({ client }, chunk) {
      if (!holding) client.write(chunk)
    },
  })
  return {
    url: `http://127.0.0.1:${relay.port}`,
    get heard() {
      return heard
    },
    get pieces() {
      return pieces
    },
    clear() {
      heard = ''
      pieces = 0
    },
    holdAnswers(hold) {
      holding = hold
    },
    stop: () => relay.stop(),
  }
}
