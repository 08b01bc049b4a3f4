import pg from 'pg'
import { z } from 'zod'
import { disconnect } from '../db/database.ts'
import type { Log } from '../observe/log.ts'
import type { Clock } from '../runtime.ts'
import type { Bus, BusMessage } from './bus.ts'
import { createLocalBus } from './local.ts'

export interface PostgresBusOptions {
  readonly url: string
  /** Publishes through a pool of the caller's, so that only one connection is spent on listening. */
  readonly pool: pg.Pool
  readonly serverId: string
  readonly clock: Clock
  readonly log: Log
}

const CHANNEL = 'beacon'
/** PostgreSQL refuses a payload of 8,000 bytes; an id with its quotes takes some 40, a session some 90. */
const ITEMS_PER_MESSAGE = 60
/** Some megabyte of text: 12,000 robots. */
const PARTS_PER_STATEMENT = 200
const FIRST_PAUSE_MS = 250
const LONGEST_PAUSE_MS = 5_000
/** A connection that died without a word is found by asking it something this often. */
const PROBE_EVERY_MS = 10_000
const PROBE_TIMEOUT_MS = 5_000

const ids = z.array(z.uuid())
const envelopeSchema = z.object({
  from: z.string(),
  message: z.discriminatedUnion('type', [
    z.object({ type: z.literal('robots_revoked'), robot_ids: ids }),
    z.object({ type: z.literal('robots_denied'), robot_ids: ids }),
    z.object({ type: z.literal('robots_retired'), robot_ids: ids }),
    z.object({ type: z.literal('robots_changed'), robot_ids: ids }),
    z.object({ type: z.literal('access_changed') }),
    z.object({ type: z.literal('fleet_changed'), fleet_id: z.uuid() }),
    z.object({
      type: z.literal('sessions_opened'),
      sessions: z.array(z.object({ robot_id: z.uuid(), session_no: z.number() })),
    }),
  ]),
})

/**
 * A bus over LISTEN and NOTIFY: one listening connection for each server. While that connection is away messages are
 * lost, and `onGap` tells so once it is back. This server's own messages are handled at once, without the detour.
 */
export async function createPostgresBus(options: PostgresBusOptions): Promise<Bus> {
  const { clock, log, serverId } = options
  const local = createLocalBus()
  const gapHandlers: (() => void)[] = []
  const stopping = new AbortController()
  let client = await listen(options, onNotification)
  let reconnecting: Promise<void> | undefined
  watch(client)
  const probe = clock.every(PROBE_EVERY_MS, () => {
    if (reconnecting) return
    const probed = client
    const timeout = clock.after(PROBE_TIMEOUT_MS, () => drop(probed))
    probed.query('SELECT 1').then(
      () => timeout.cancel(),
      () => {
        timeout.cancel()
        drop(probed)
      },
    )
  })

  function onNotification(payload: string): void {
    let envelope: z.infer<typeof envelopeSchema>
    try {
      envelope = envelopeSchema.parse(JSON.parse(payload))
    } catch {
      // A newer server's message: it will have to be one that an older one may miss.
      log.debug('a message of another server was not understood')
      return
    }
    if (envelope.from !== serverId) void local.publish(envelope.message)
  }

  function watch(watched: pg.Client): void {
    watched.on('error', () => drop(watched))
    watched.on('end', () => drop(watched))
  }

  function drop(dropped: pg.Client): void {
    if (dropped !== client || reconnecting || stopping.signal.aborted) return
    log.warn('the connection that hears other servers is lost')
    // Destroys the socket too when it hangs.
    void dropped.end().catch(() => {})
    reconnecting = reconnect().finally(() => {
      reconnecting = undefined
    })
  }

  async function reconnect(): Promise<void> {
    for (
      let pauseMs = FIRST_PAUSE_MS;
      !stopping.signal.aborted;
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
    ) {
      try {
        client = await listen(options, onNotification)
        watch(client)
        log.info('hearing other servers again')
        for (const handler of gapHandlers) handler()
        return
      } catch {
        await clock.sleep(pauseMs, stopping.signal).catch(() => {})
      }
    }
  }

  return {
    async publish(message) {
      void local.publish(message)
      const payloads = split(message).map((part) => JSON.stringify({ from: serverId, message: part }))
      // All parts go out with one commit, for each commit that notifies takes a lock of the whole PostgreSQL.
      for (let start = 0; start < payloads.length; start += PARTS_PER_STATEMENT)
        await options.pool.query(
          'SELECT pg_notify($1, part) FROM unnest($2::text[]) WITH ORDINALITY AS parts (part, place) ORDER BY place',
          [CHANNEL, payloads.slice(start, start + PARTS_PER_STATEMENT)],
        )
    },
    subscribe: (handler) => local.subscribe(handler),
    onGap: (handler) => gapHandlers.push(handler),
    async stop() {
      stopping.abort()
      probe.cancel()
      await reconnecting
      await disconnect(client, clock)
    },
  }
}

async function listen(options: PostgresBusOptions, onPayload: (payload: string) => void): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: options.url,
    application_name: 'beacon bus',
    connectionTimeoutMillis: 5_000,
    // One that connects and says nothing from then on would be waited for without an end.
    query_timeout: PROBE_TIMEOUT_MS,
    keepAlive: true,
  })
  // Without a listener an error during the attempt would end the process.
  client.on('error', () => {})
  client.on('notification', ({ payload }) => onPayload(payload ?? ''))
  try {
    await client.connect()
    await client.query(`LISTEN ${CHANNEL}`)
  } catch (error) {
    void client.end().catch(() => {})
    throw error
  }
  return client
}

/** Cuts a message into ones that each fit into a notification. */
function split(message: BusMessage): BusMessage[] {
  switch (message.type) {
    case 'fleet_changed':
    case 'access_changed':
      return [message]
    case 'sessions_opened':
      return chunks(message.sessions).map((sessions) => ({ ...message, sessions }))
    default:
      return chunks(message.robot_ids).map((robot_ids) => ({ ...message, robot_ids }))
  }
}

function chunks<Item>(items: readonly Item[]): Item[][] {
  const parts: Item[][] = []
  for (let start = 0; start < items.length; start += ITEMS_PER_MESSAGE)
    parts.push(items.slice(start, start + ITEMS_PER_MESSAGE))
  return parts
}
