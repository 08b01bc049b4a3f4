import { createBeacon } from './app.ts'
import { type Config, ConfigError, readConfig } from './config.ts'
import { isDatabaseUnavailable } from './db/database.ts'
import { EmbeddedPostgresError } from './db/embedded.ts'
import { MigrationError } from './db/migrate.ts'
import { createLog } from './observe/log.ts'
import { version } from './package.ts'
import { RobotPortError } from './processes/robot-port.ts'
import { systemClock, systemRandom } from './runtime.ts'
import { EngineError } from './transport/engines.ts'

/** Runs the server until a signal ends it; resolves with the exit code. */
export async function runServer(): Promise<number> {
  let config: Config
  try {
    config = readConfig()
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(`beacon: ${error.message}\n`)
    return 2
  }
  const log = createLog(config.logLevel)
  for (const name of config.unknownNames) log.warn({ name }, 'a BEACON_ variable is set that nothing reads')

  let finish: (code: number) => void = () => {}
  const finished = new Promise<number>((resolve) => {
    finish = resolve
  })
  const beacon = createBeacon(config, {
    clock: systemClock,
    random: systemRandom,
    log,
    onFatal: (error) => {
      log.fatal({ err: error }, 'the server cannot go on')
      void beacon.stop().then(() => finish(1))
    },
  })

  let signals = 0
  const onSignal = (signal: NodeJS.Signals): void => {
    signals += 1
    if (signals > 1) {
      // Only a person at a terminal insists; a supervisor that repeats itself has SIGKILL when it means it.
      if (signal === 'SIGTERM') return
      log.warn({ signal }, 'stopping at once')
      process.exit(1)
    }
    log.info({ signal }, 'draining')
    void beacon.stop().then(() => finish(0))
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)

  try {
    const started = await beacon.start()
    const { engine, engineBuild, engineWhy: why, processes } = started
    log.info({ engine, build: engineBuild, why, processes }, 'robots are carried')
    if (started.ownerToken !== undefined)
      process.stdout.write(
        `beacon owner token, shown only this once: ${started.ownerToken}\n` +
          '  keep it safe; operators use it as BEACON_API_KEY, programs as Authorization: Bearer\n',
      )
    process.stdout.write(
      `beacon ready on ${started.url} (robots: ${started.gatewayUrl}, engine ${started.engine} ` +
        `(${started.engineBuild}) in ${started.processes === 1 ? '1 process' : `${started.processes} processes`}, ` +
        `PostgreSQL ${started.database}, version ${version})\n`,
    )
  } catch (error) {
    if (signals === 0) {
      log.debug({ err: error }, 'the start failed')
      process.stderr.write(`beacon: ${explain(error, config)}\n`)
      return 1
    }
  }
  const code = await finished
  process.off('SIGTERM', onSignal)
  process.off('SIGINT', onSignal)
  return code
}

/** A start that failed, in a sentence for the person who started it. */
function explain(error: unknown, config: Config): string {
  if (error instanceof EmbeddedPostgresError || error instanceof MigrationError) return error.message
  if (error instanceof RobotPortError || error instanceof EngineError) return error.message
  const { code, message, hostname } = error as NodeJS.ErrnoException & { hostname?: string }
  if (code === 'EADDRNOTAVAIL' || (hostname !== undefined && hostname === config.host))
    return `BEACON_HOST is no address of this machine: ${message}`
  if (isDatabaseUnavailable(error)) return `the database in BEACON_DATABASE_URL cannot be reached: ${message}`
  if (code === 'EADDRINUSE') return `${message}; another program uses BEACON_PORT`
  return `could not start: ${message}`
}
