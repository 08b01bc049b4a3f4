/** The bounds both ends keep. Times in milliseconds, sizes in bytes of UTF-8. */

/** Name both ends put in `Sec-WebSocket-Protocol`. */
export const SUBPROTOCOL = 'beacon.v1'
export const PROTOCOL_VERSION = 1

export const MAX_FRAME_BYTES = 16 * 1024
export const HELLO_TIMEOUT_MS = 10_000
/** Malformed frames that one session may send before it is closed. */
export const MAX_FRAME_ERRORS = 10

export const MAX_METRICS = 64
export const MAX_FAULTS = 32
/** No two clocks that tell of the years 1970 to 9999 lie further apart. */
export const MAX_CLOCK_OFFSET_MS = 253_402_300_799_999
export const METRIC_NAME = /^[a-z][a-z0-9_]{0,62}$/

export const MIN_HEARTBEAT_INTERVAL_MS = 500
export const MAX_HEARTBEAT_INTERVAL_MS = 3_600_000

/** Silence, in heartbeat intervals, after which a robot is stale. */
export const STALE_AFTER_INTERVALS = 2.5
/** Silence after which a robot is offline: this many intervals and then OFFLINE_EXTRA_MS more. */
export const OFFLINE_AFTER_INTERVALS = 3
export const OFFLINE_EXTRA_MS = 5_000

/** Longest pause of a robot's exponential backoff: what a restarted server has to grant before it calls anybody lost. */
export const MAX_RECONNECT_BACKOFF_MS = 60_000
/** The longest time over which a server spreads robots that lost their sessions without a word of it. */
export const MAX_RECONNECT_SPREAD_MS = 120_000
