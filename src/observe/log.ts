import { type DestinationStream, type Logger, pino } from 'pino'

export type Log = Logger

/** Field names whose values never reach a log, wherever they stand. */
const SECRET_FIELDS = [
  'authorization',
  'token',
  'robot_token',
  'key_value',
  'secret',
  'password',
  'token_hash',
]

/**
 * The process's logger: JSON lines on standard error (standard output belongs to `beacon ready` and to commands'
 * answers), with request headers and secrets left out.
 */
export function createLog(level: string, destination?: DestinationStream): Log {
  return pino(
    {
      level,
      base: { service: 'beacon' },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: SECRET_FIELDS.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]),
        censor: '[redacted]',
      },
    },
    destination ?? pino.destination({ fd: 2, sync: false, minLength: 0 }),
  )
}
