import { randomBytes } from 'node:crypto'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import type { Child, StartChild } from './child.ts'

export interface BeaconServer {
  readonly child: Child
  readonly port: number
  /** May do everything over REST; holds on a database that no server has used before. */
  readonly ownerToken: string
}

export interface BeaconServerOptions {
  readonly databaseUrl: string
  readonly settings?: Readonly<Record<string, string>>
}

/** `beacon server` as a process of its own, as it was compiled together with the bench. */
export async function startBeaconServer(
  start: StartChild,
  { databaseUrl, settings = {} }: BeaconServerOptions,
): Promise<BeaconServer> {
  const ownerToken = mintCheckedToken('personal')
  const child = start(new URL('../../src/cli/main.js', import.meta.url), {
    args: ['server'],
    settings: {
      BEACON_DATABASE_URL: databaseUrl,
      // As a server with a database of its own has it.
      BEACON_BUS: 'local',
      BEACON_PORT: '0',
      BEACON_REQUESTS_PER_SECOND: '0',
      BEACON_ADMIN_TOKEN: ownerToken,
      BEACON_SECRET_KEY: randomBytes(32).toString('hex'),
      BEACON_LOG_LEVEL: 'warn',
      ...settings,
    },
    // For whoever looks for bottlenecks: `--cpu-prof`, say.
    node: process.env.BENCH_SERVER_NODE_OPTIONS?.split(' ') ?? [],
  })
  const [, port] = await child.says(/^beacon ready on http:\/\/[^:\s]+:(\d+)/m)
  return { child, port: Number(port), ownerToken }
}
