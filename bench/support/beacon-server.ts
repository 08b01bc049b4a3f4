import { randomBytes } from 'node:crypto'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import type { Child, StartChild } from './child.ts'
import type { EngineName } from './engines.ts'

export interface BeaconServer {
  readonly child: Child
  /** REST, and robots by the ws engine. */
  readonly port: number
  /** Where robots are told to come: that of the engine asked for. */
  readonly gatewayPort: number
  /** May do everything over REST; holds on a database that no server has used before. */
  readonly ownerToken: string
}

export interface BeaconServerOptions {
  readonly databaseUrl: string
  readonly engine?: EngineName
  readonly settings?: Readonly<Record<string, string>>
  /** Loaded before the server, as `node --import` does. */
  readonly preload?: URL
}

/** `beacon server` as a process of its own, as it was compiled together with the bench. */
export async function startBeaconServer(
  start: StartChild,
  { databaseUrl, engine = 'ws', settings = {}, preload }: BeaconServerOptions,
): Promise<BeaconServer> {
  const ownerToken = mintCheckedToken('personal')
  const child = start(new URL('../../src/cli/main.js', import.meta.url), {
    args: ['server'],
    settings: {
      BEACON_DATABASE_URL: databaseUrl,
      // As a server with a database of its own has it.
      BEACON_BUS: 'local',
      BEACON_PORT: '0',
      BEACON_GATEWAY_ENGINE: engine,
      BEACON_GATEWAY_PORT: '0',
      BEACON_REQUESTS_PER_SECOND: '0',
      // Only what asks about admission limits it.
      BEACON_SESSIONS_PER_SECOND: '0',
      BEACON_ADMIN_TOKEN: ownerToken,
      BEACON_SECRET_KEY: randomBytes(32).toString('hex'),
      BEACON_LOG_LEVEL: 'warn',
      ...settings,
    },
    node: [
      ...(preload ? ['--import', preload.href] : []),
      // For whoever looks for bottlenecks: `--cpu-prof`, say.
      ...(process.env.BENCH_SERVER_NODE_OPTIONS?.split(' ').filter(Boolean) ?? []),
    ],
  })
  const [, port, gatewayPort, listens] = await child.says(
    /^beacon ready on https?:\/\/[^:\s]+:(\d+) \(robots: wss?:\/\/[^:\s]+:(\d+)\/[^,]*, engine (\w+).*\n/m,
  )
  if (listens !== engine) throw new Error(`the server listens with ${listens}, not with ${engine}`)
  return { child, port: Number(port), gatewayPort: Number(gatewayPort), ownerToken }
}
