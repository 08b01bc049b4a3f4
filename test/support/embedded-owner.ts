import { startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { createLog } from '../../src/observe/log.ts'
import { systemClock, systemRandom } from '../../src/runtime.ts'

/** A process that owns a data folder until it is killed: `node run-typescript.mjs embedded-owner.ts <data folder>`. */
const dataDir = process.argv[3]
if (!dataDir) throw new Error('the data folder is missing')

try {
  const { url } = await startEmbeddedPostgres({
    dataDir,
    log: createLog('warn'),
    clock: systemClock,
    random: systemRandom,
    settings: { fsync: 'off' },
  })
  process.stdout.write(`ready ${url}\n`)
} catch (error) {
  process.stdout.write(`refused ${(error as Error).message}\n`)
  process.exit(1)
}
