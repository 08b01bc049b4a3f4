const HOUR_MS = 3_600_000

/** How long servers under test keep the history. */
export const RETENTION = { rawMs: 48 * HOUR_MS, minutesMs: 14 * 24 * HOUR_MS, hoursMs: 400 * 24 * HOUR_MS }
