import type { Child, StartChild } from './child.ts'

export const ENGINES = ['ws', 'uws'] as const
export type EngineName = (typeof ENGINES)[number]

/** As people know them. */
export const ENGINE_NAMES: Readonly<Record<EngineName, string>> = { ws: 'ws', uws: 'uWebSockets.js' }

/** What `--engine` names: one of them, or both. */
export function enginesAsked(asked: string): readonly EngineName[] {
  if (asked === 'both') return ENGINES
  const engines = ENGINES.filter((engine) => engine === asked)
  if (engines.length === 0) throw new Error(`--engine takes ${ENGINES.join(', ')} or both`)
  return engines
}

export interface BareServer {
  readonly child: Child
  readonly port: number
}

/** The bare engine, which sends each message back, as a process of its own. */
export async function startBareServer(
  start: StartChild,
  engine: EngineName,
  preload?: URL,
): Promise<BareServer> {
  const child = start(new URL('../programs/echo-server.js', import.meta.url), {
    args: [engine],
    node: preload ? ['--import', preload.href] : [],
  })
  const [, port] = await child.says(/^listening on port (\d+)$/m)
  return { child, port: Number(port) }
}
