import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import type { Log } from '../observe/log.ts'
import type { Clock } from '../runtime.ts'

export interface PortParts {
  readonly host: string
  /** 0: any that is free. */
  readonly port: number
  readonly clock: Clock
  readonly log: Log
}

/** A port that processes of ours may share, and nobody else has. */
export interface ReservedPort {
  readonly port: number
  release(): Promise<void>
}

/** Processes of a server that was killed send their robots away before they let go of the port. */
const WAIT_MS = 15_000
const LOOK_EVERY_MS = 250

/**
 * Makes sure that nobody listens on the port before several processes of ours do: sharing a port asks nobody, so another
 * server of the same user would get half of the robots. Waits a little for whoever is there to go; rejects with
 * EADDRINUSE. On Linux the port stays ours, for other servers, until it is released, also while none of our processes
 * listens.
 */
export async function reservePort({ host, port, clock, log }: PortParts): Promise<ReservedPort> {
  const waitUntil = clock.monotonic() + WAIT_MS
  for (let told = false; ; ) {
    try {
      return await tryReserve(host, port)
    } catch (error) {
      const inUse = (error as NodeJS.ErrnoException).code === 'EADDRINUSE'
      if (!inUse || port === 0 || clock.monotonic() >= waitUntil) throw error
      if (!told) log.info({ port }, 'the port for robots is in use; waiting for whoever has it to go')
      told = true
      await clock.sleep(LOOK_EVERY_MS)
    }
  }
}

async function tryReserve(host: string, wanted: number): Promise<ReservedPort> {
  const probe = await listen({ host, port: wanted, exclusive: true })
  const { port } = probe.address() as AddressInfo
  try {
    // A name in the kernel alone, gone with this process. Two servers that start at once both find the port free.
    const mark =
      process.platform === 'linux' ? await listen({ path: `\0beacon-gateway-${host}-${port}` }) : undefined
    mark?.unref()
    return { port, release: async () => void (mark && (await close(mark))) }
  } finally {
    await close(probe)
  }
}

async function listen(options: { host: string; port: number; exclusive: true } | { path: string }) {
  const server = createServer((socket) => socket.destroy())
  await once(server.listen(options), 'listening')
  return server
}

async function close(server: ReturnType<typeof createServer>): Promise<void> {
  const closed = once(server, 'close')
  server.close()
  await closed
}
