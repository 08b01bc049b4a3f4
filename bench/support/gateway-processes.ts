import { setTimeout as sleep } from 'node:timers/promises'
import { type BeaconServer, startBeaconServer } from './beacon-server.ts'
import type { StartChild } from './child.ts'
import type { EngineName } from './engines.ts'
import { childrenOf } from './memory.ts'

const PATIENCE_MS = 120_000
const LOOK_EVERY_MS = 100

export interface GatewayOptions {
  readonly databaseUrl: string
  readonly engine: EngineName
  readonly processes: number
  readonly heartbeatSeconds: number
  readonly settings?: Readonly<Record<string, string>>
}

export interface ManyProcesses extends BeaconServer {
  /** The gateway processes that run now; with one, the server itself. */
  gateways(): number[]
  /** Waits until there are as many as there should be. */
  complete(): Promise<void>
}

/** `beacon server` with robots spread over gateway processes of its own. */
export async function startManyProcesses(
  start: StartChild,
  { databaseUrl, engine, processes, heartbeatSeconds, settings = {} }: GatewayOptions,
): Promise<ManyProcesses> {
  const server = await startBeaconServer(start, {
    databaseUrl,
    engine,
    settings: {
      BEACON_BUS: 'postgres',
      BEACON_GATEWAY_PROCESSES: String(processes),
      BEACON_HEARTBEAT_SECONDS: String(heartbeatSeconds),
      ...settings,
    },
  })
  const gateways = () => (processes === 1 ? [server.child.pid] : childrenOf(server.child.pid))
  async function complete(): Promise<void> {
    const end = performance.now() + PATIENCE_MS
    while (gateways().length < processes) {
      if (performance.now() > end)
        throw new Error(`of ${processes} gateway processes only ${gateways().length} run`)
      await sleep(LOOK_EVERY_MS)
    }
  }
  return { ...server, gateways, complete }
}
