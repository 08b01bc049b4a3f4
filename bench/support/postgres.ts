import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { migrate } from '../../src/db/migrate.ts'
import { createLog } from '../../src/observe/log.ts'
import { systemClock, systemRandom } from '../../src/runtime.ts'
import { unlessInterrupted } from './interrupt.ts'

/** Runs the work on a private, migrated PostgreSQL that writes to disk as in production, and removes it afterwards. */
export async function withPostgres<Result>(
  work: (url: string) => Promise<Result>,
  settings: Readonly<Record<string, string>> = {},
): Promise<Result> {
  const dataDir = await mkdtemp(join(tmpdir(), 'beacon-bench-'))
  const log = createLog('warn')
  try {
    const postgres = await startEmbeddedPostgres({
      dataDir,
      log,
      clock: systemClock,
      random: systemRandom,
      settings,
    })
    try {
      await migrate({ url: postgres.url, log })
      return await unlessInterrupted(() => work(postgres.url))
    } finally {
      await postgres.stop()
    }
  } finally {
    await rm(dataDir, { recursive: true, force: true })
  }
}
