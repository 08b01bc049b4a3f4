import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/**
 * Every series of this process, declared once. Low cardinality and base units: nothing here grows with the number of
 * robots. Series about the deployment (robots by site, fleet and connection) are read from the database at each
 * scrape and live in http/.
 */
export function createMetrics() {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry, prefix: 'beacon_' })
  // Gauges that are named as counters are; what they tell is the sum of the series of the same name without `_total`.
  for (const name of ['handles', 'requests', 'resources'])
    registry.removeSingleMetric(`beacon_nodejs_active_${name}_total`)
  const registers = [registry]
  /** What happens so often that counting is to cost nothing: added to its counter when that is read. */
  const uncounted = { heartbeatsReceived: 0, upgradesAccepted: 0, sessionsOpened: 0 }
  return {
    registry,
    uncounted,
    claims: new Counter({
      name: 'beacon_claims_total',
      help: 'Claims by outcome: admitted, repeated, rebound, or the code of the refusal',
      labelNames: ['outcome'] as const,
      registers,
    }),
    claimGroupSize: new Histogram({
      name: 'beacon_claim_group_size',
      help: 'Claims granted together in one transaction',
      buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256],
      registers,
    }),
    upgrades: new Counter({
      name: 'beacon_upgrades_total',
      help: 'Robot WebSocket upgrade requests by outcome: accepted, or the code of the refusal',
      labelNames: ['outcome'] as const,
      registers,
      collect() {
        if (uncounted.upgradesAccepted === 0) return
        this.inc({ outcome: 'accepted' }, uncounted.upgradesAccepted)
        uncounted.upgradesAccepted = 0
      },
    }),
    admissionWaiting: new Gauge({
      name: 'beacon_admission_waiting',
      help: 'Upgrade requests that wait for their turn',
      registers,
    }),
    overloadRefusals: new Counter({
      name: 'beacon_overload_refusals_total',
      help: 'Upgrade requests answered with 503 overloaded, by what was short',
      labelNames: ['reason'] as const,
      registers,
    }),
    overloaded: new Gauge({
      name: 'beacon_overloaded',
      help: 'Processes that turn new robots away because this is short',
      labelNames: ['reason'] as const,
      registers,
    }),
    gatewayProcesses: new Gauge({
      name: 'beacon_gateway_processes',
      help: 'Gateway processes by state: starting, ready, draining, or waiting to be started again',
      labelNames: ['state'] as const,
      registers,
    }),
    gatewayProcessesListening: new Gauge({
      name: 'beacon_gateway_processes_listening',
      help: 'Gateway processes that are on the port for robots; those without room leave it to the others',
      registers,
    }),
    gatewayProcessExits: new Counter({
      name: 'beacon_gateway_process_exits_total',
      help: 'Gateway processes that ended and should not have: crash, hang, start (it never took robots) or drain (too slow)',
      labelNames: ['reason'] as const,
      registers,
    }),
    gatewayReportsMissed: new Counter({
      name: 'beacon_gateway_reports_missed_total',
      help: 'Times a gateway process did not say in time what it had counted',
      registers,
    }),
    sessions: new Gauge({ name: 'beacon_sessions', help: 'Robot sessions open on this server', registers }),
    sessionsOpened: new Counter({
      name: 'beacon_sessions_opened_total',
      help: 'Robot sessions opened',
      registers,
      collect() {
        this.inc(uncounted.sessionsOpened)
        uncounted.sessionsOpened = 0
      },
    }),
    clonesSuspected: new Counter({
      name: 'beacon_clones_suspected_total',
      help: 'Sessions asked for by what seems to be a copy of a robot, by what gave it away and what became of them',
      labelNames: ['reason', 'outcome'] as const,
      registers,
    }),
    sessionsClosed: new Counter({
      name: 'beacon_sessions_closed_total',
      help: 'Robot sessions closed, by reason',
      labelNames: ['reason'] as const,
      registers,
    }),
    frameErrors: new Counter({
      name: 'beacon_frame_errors_total',
      help: 'Frames of robots that were not taken, by code',
      labelNames: ['code'] as const,
      registers,
    }),
    heartbeatsReceived: new Counter({
      name: 'beacon_heartbeats_received_total',
      help: 'Valid heartbeats received',
      registers,
      collect() {
        this.inc(uncounted.heartbeatsReceived)
        uncounted.heartbeatsReceived = 0
      },
    }),
    heartbeatsStored: new Counter({
      name: 'beacon_heartbeats_stored_total',
      help: 'Heartbeats written to the database and acknowledged',
      registers,
    }),
    heartbeatsRefused: new Counter({
      name: 'beacon_heartbeats_refused_total',
      help: 'Heartbeats not kept, by reason',
      labelNames: ['reason'] as const,
      registers,
    }),
    heartbeatGroupSize: new Histogram({
      name: 'beacon_heartbeat_group_size',
      help: 'Heartbeats written by one statement',
      buckets: [1, 4, 16, 64, 250, 1000],
      registers,
    }),
    heartbeatsPacked: new Counter({
      name: 'beacon_heartbeats_packed_total',
      help: 'Heartbeats that went from rows into packs and roll-ups',
      registers,
    }),
    heartbeatsSetAside: new Counter({
      name: 'beacon_heartbeats_set_aside_total',
      help: 'Heartbeats that could not be packed and stay rows, because something of them is damaged; the log says whose',
      registers,
    }),
    packSeconds: new Histogram({
      name: 'beacon_history_pack_seconds',
      help: 'Time it took to pack the heartbeats of some robots',
      buckets: [0.01, 0.05, 0.1, 0.5, 1, 5, 30],
      registers,
    }),
    historyBytes: new Gauge({
      name: 'beacon_history_bytes',
      help: 'What the history takes in the database, by level: heartbeats (not packed yet), raw, minutes, hours',
      labelNames: ['level'] as const,
      registers,
    }),
    diskFreeBytes: new Gauge({
      name: 'beacon_disk_free_bytes',
      help: "What is left of the disk with the server's own PostgreSQL; absent when that is another's",
      labelNames: ['folder'] as const,
      registers,
    }),
    diskBytes: new Gauge({
      name: 'beacon_disk_size_bytes',
      help: 'How large that disk is',
      labelNames: ['folder'] as const,
      registers,
    }),
    queueDepth: new Gauge({
      name: 'beacon_queue_depth',
      help: 'Items that wait for the database, by queue',
      labelNames: ['queue'] as const,
      registers,
    }),
    pausedSessions: new Gauge({
      name: 'beacon_sessions_paused',
      help: 'Sessions not read from for now, because the database is behind or the robot sends too fast',
      registers,
    }),
    presenceChanges: new Counter({
      name: 'beacon_presence_changes_total',
      help: 'Robots that became online, stale or offline',
      labelNames: ['connection'] as const,
      registers,
    }),
    databaseSeconds: new Histogram({
      name: 'beacon_database_seconds',
      help: 'Time one database statement or transaction took, by operation',
      labelNames: ['operation'] as const,
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
      registers,
    }),
    databaseErrors: new Counter({
      name: 'beacon_database_errors_total',
      help: 'Database operations that failed, by operation',
      labelNames: ['operation'] as const,
      registers,
    }),
    httpSeconds: new Histogram({
      name: 'beacon_http_request_seconds',
      help: 'Time to answer a REST request, by route and status class',
      labelNames: ['method', 'route', 'status'] as const,
      buckets: [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5],
      registers,
    }),
    liveReaders: new Gauge({
      name: 'beacon_live_readers',
      help: 'Live feeds that are open on this server',
      registers,
    }),
    liveBytes: new Counter({
      name: 'beacon_live_bytes_total',
      help: 'Bytes written to live feeds',
      registers,
    }),
    liveEnded: new Counter({
      name: 'beacon_live_ended_total',
      help: 'Live feeds that ended, by reason; gone: the reader left',
      labelNames: ['reason'] as const,
      registers,
    }),
    livePollSeconds: new Histogram({
      name: 'beacon_live_poll_seconds',
      help: 'Time to find what changed for all live feeds of this server, and to read it',
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
      registers,
    }),
    rateLimited: new Counter({
      name: 'beacon_rate_limited_total',
      help: 'Requests answered with 429, by limit',
      labelNames: ['limit'] as const,
      registers,
    }),
    busMessages: new Counter({
      name: 'beacon_bus_messages_total',
      help: 'Messages between servers, by direction and type',
      labelNames: ['direction', 'type'] as const,
      registers,
    }),
  }
}

export type Metrics = ReturnType<typeof createMetrics>
