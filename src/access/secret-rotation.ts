import { type AuditEntry, insertAudit } from '../db/audit.ts'
import { type Database, isDatabaseUnavailable } from '../db/database.ts'
import {
  countSealed,
  findSealedOtherwise,
  findServerWithoutKey,
  lockSecretKeys,
  noteSecretKeys,
  openTransactions,
  replaceSealed,
  SEALED_KINDS,
  type SealedKind,
  type SealedRow,
  sealContext,
} from '../db/sealed.ts'
import { inTransaction } from '../db/transaction.ts'
import { BeaconError } from '../errors.ts'
import type { Log } from '../observe/log.ts'
import type { Clock, Timer } from '../runtime.ts'
import { type Seal, SealError, sealKeyId } from './seal.ts'
import type { KeyFile, Keyring } from './secret-key.ts'

/** A key, and how much it has sealed. Missing: envelopes name it, and this server does not have it. */
export interface KeyStanding {
  readonly keyId: string
  readonly standing: 'current' | 'older' | 'missing'
  readonly sealed: Readonly<Record<SealedKind, number>>
}

/** The rotation that this server works on, or worked on last. */
export interface RotationProgress {
  readonly state: 'running' | 'finished' | 'failed'
  readonly resealed: number
  /** Envelopes of a key that is here which do not open: they keep their key from being taken away. */
  readonly unreadable: number
  readonly keysRemoved: number
}

export interface SecretsStatus {
  readonly source: 'file' | 'settings'
  readonly keys: readonly KeyStanding[]
  readonly rotation: RotationProgress | null
}

/** What the audit log is told when all is done; counts only. */
export type RotationDeed = (data: Readonly<Record<string, number>>) => AuditEntry

/**
 * Changes the key that secrets are sealed with, while servers run. First the new key is added, from when on nothing is
 * sealed with another; then everything that older keys sealed is sealed anew; only when nothing is left, and no
 * transaction that may have used an older key is open, the older keys are taken away. Each step leaves a state in which
 * all can be opened, and may be done again: who is interrupted begins another rotation, which finishes both.
 */
export interface SecretRotation {
  /** Tells the other servers, now and from time to time, which keys the servers of these ids open with. */
  announce(serverIds: () => readonly string[]): Promise<void>
  status(): Promise<SecretsStatus>
  /** Takes a new key within the transaction. Where the settings give the key, they must have given another already. */
  takeNewKey(transaction: Database, options: { readonly keepOld: boolean }): Promise<void>
  /** Seals anew what older keys sealed, in the background, and takes them away unless told otherwise. */
  sealAnew(options: { readonly keepOld: boolean; readonly deed: RotationDeed }): void
  stop(): Promise<void>
}

export interface SecretRotationOptions {
  readonly database: Database
  readonly keyring: Keyring
  readonly seal: Seal
  readonly clock: Clock
  readonly log: Log
  /** What is sealed before its transaction begins is written within this time. */
  readonly graceMs?: number
}

const BATCH = 200
const RETRY_MS = 2_000
const LOOK_MS = 100
const GRACE_MS = 1_000
const ANNOUNCE_MS = 5_000

export function createSecretRotation(options: SecretRotationOptions): SecretRotation {
  const { database, keyring, clock, log } = options
  const stopping = new AbortController()
  let progress: RotationProgress | null = null
  let work: Promise<void> = Promise.resolve()
  let announcing: Timer | undefined

  async function status(): Promise<SecretsStatus> {
    const counts = await countSealed(database)
    const { current, older } = keyring.keys()
    const [currentId, ...olderIds] = [current, ...older].map(sealKeyId)
    const missing = new Set(counts.map(({ keyId }) => keyId))
    const describe = (keyId: string, standing: KeyStanding['standing']): KeyStanding => {
      missing.delete(keyId)
      const sealed = SEALED_KINDS.map(
        (kind) => [kind, counts.find((row) => row.kind === kind && row.keyId === keyId)?.count ?? 0] as const,
      )
      return { keyId, standing, sealed: Object.fromEntries(sealed) as Record<SealedKind, number> }
    }
    const known = [describe(currentId!, 'current'), ...olderIds.map((id) => describe(id, 'older'))]
    const others = [...missing].sort().map((keyId) => describe(keyId, 'missing'))
    return { source: keyring.file ? 'file' : 'settings', keys: [...known, ...others], rotation: progress }
  }

  /** Runs the work until it succeeds; what is wrong with more than the database ends it. */
  async function untilDone(keepOld: boolean, deed: RotationDeed): Promise<void> {
    progress = { state: 'running', resealed: 0, unreadable: 0, keysRemoved: 0 }
    const add = (more: Partial<RotationProgress>) => {
      progress = { ...progress!, ...more }
    }
    while (!stopping.signal.aborted) {
      try {
        await rotate(options, stopping.signal, keepOld, deed, add)
        add({ state: 'finished' })
        return
      } catch (error) {
        if (stopping.signal.aborted) return
        if (!isDatabaseUnavailable(error)) {
          log.error({ err: error }, 'secrets could not be sealed anew')
          add({ state: 'failed' })
          return
        }
        log.warn({ err: error }, 'secrets cannot be sealed anew now; it is tried again')
        await clock.sleep(RETRY_MS, stopping.signal).catch(() => {})
      }
    }
  }

  return {
    status,
    async announce(serverIds) {
      const note = () => {
        const { current, older } = keyring.keys()
        return noteSecretKeys(database, serverIds(), [current, ...older].map(sealKeyId))
      }
      await note()
      announcing = clock.every(ANNOUNCE_MS, () => {
        note().catch((error: unknown) => log.debug({ err: error }, 'could not say which keys are here'))
      })
    },
    async takeNewKey(transaction, { keepOld }) {
      await lockSecretKeys(transaction)
      if (keyring.file) {
        if (keyring.file.isFull) await makeRoom(transaction, keyring.file, keepOld)
        await keyring.file.add()
        return
      }
      const { current, older } = keyring.keys()
      const behind = await findServerWithoutKey(transaction, sealKeyId(current))
      if (behind)
        throw new BeaconError(
          'secret_key_in_settings',
          `the server on ${behind.hostname} (process ${behind.processId}) cannot open what the key ${sealKeyId(current)} seals: give it that key first`,
        )
      if (older.length === 0)
        throw new BeaconError(
          'secret_key_in_settings',
          'start the servers with a new BEACON_SECRET_KEY and the present one as BEACON_SECRET_KEY_PREVIOUS, then ask again',
        )
    },
    sealAnew({ keepOld, deed }) {
      work = work.then(() => untilDone(keepOld, deed))
    },
    async stop() {
      announcing?.cancel()
      stopping.abort()
      await work
    },
  }
}

/** Takes the oldest key away that nothing is sealed with. */
async function makeRoom(transaction: Database, file: KeyFile, keepOld: boolean): Promise<void> {
  if (keepOld)
    throw new BeaconError(
      'invalid_request',
      'as many old keys are kept as there may be: rotate once without keep_old',
    )
  const used = new Set((await countSealed(transaction)).map(({ keyId }) => keyId))
  const [, ...older] = file.keys()
  const oldest = older.findLast((key) => !used.has(sealKeyId(key)))
  if (!oldest)
    throw new BeaconError('overloaded', 'what older keys sealed has to be sealed anew first', {
      retryAfterSeconds: 10,
    })
  await file.remove((key) => key.equals(oldest))
}

async function rotate(
  { database, keyring, seal, clock, graceMs = GRACE_MS }: SecretRotationOptions,
  signal: AbortSignal,
  keepOld: boolean,
  deed: RotationDeed,
  tell: (progress: Partial<RotationProgress>) => void,
): Promise<void> {
  const { current, older } = keyring.keys()
  const olderIds = new Set(older.map(sealKeyId))
  const before = new Set(await openTransactions(database))
  let resealed = 0
  const sealAll = async () => {
    for (const kind of SEALED_KINDS)
      await sealKind({ database, seal, signal }, kind, sealKeyId(current), (count) => {
        resealed += count
        tell({ resealed })
      })
  }
  await sealAll()
  // What was sealed with an older key a moment before the new one came may not be there to be seen before now.
  while ((await openTransactions(database)).some((name) => before.has(name)))
    await clock.sleep(LOOK_MS, signal)
  await clock.sleep(graceMs, signal)
  await sealAll()
  await inTransaction(database, async (transaction) => {
    await lockSecretKeys(transaction)
    const left = (await countSealed(transaction)).filter(({ keyId }) => olderIds.has(keyId))
    const unreadable = left.reduce((sum, { count }) => sum + count, 0)
    const needed = new Set(left.map(({ keyId }) => keyId))
    const unused = (key: Buffer) => olderIds.has(sealKeyId(key)) && !needed.has(sealKeyId(key))
    const keysBefore = keyring.file?.keys().length ?? 0
    if (keyring.file && !keepOld) await keyring.file.remove(unused)
    const keysRemoved = keysBefore - (keyring.file?.keys().length ?? 0)
    tell({ unreadable, keysRemoved })
    await insertAudit(transaction, [deed({ resealed, unreadable, keys_removed: keysRemoved })])
  })
}

/** Seals anew, batch by batch, what other keys than the one in use sealed. What does not open is left as it is. */
async function sealKind(
  { database, seal, signal }: { database: Database; seal: Seal; signal: AbortSignal },
  kind: SealedKind,
  currentId: string,
  count: (resealed: number) => void,
): Promise<void> {
  let after: readonly string[] | undefined
  for (;;) {
    signal.throwIfAborted()
    const rows = await findSealedOtherwise(database, kind, currentId, { after, limit: BATCH })
    const opened = rows.flatMap((row) => {
      const next = sealedAnew(seal, kind, row)
      return next ? [{ ...row, next }] : []
    })
    if (opened.length > 0)
      count(await inTransaction(database, (transaction) => replaceSealed(transaction, kind, opened)))
    if (rows.length < BATCH) return
    after = rows.at(-1)!.id
  }
}

function sealedAnew(seal: Seal, kind: SealedKind, { id, envelope }: SealedRow): Buffer | undefined {
  const context = sealContext(kind, ...id)
  try {
    return seal.seal(seal.open(envelope, context), context)
  } catch (error) {
    if (error instanceof SealError) return undefined
    throw error
  }
}
