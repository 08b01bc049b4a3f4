import { createHash } from 'node:crypto'
import { Secret, TOTP } from 'otpauth'
import type { Database } from '../../db/database.ts'
import { sealContext } from '../../db/sealed.ts'
import {
  confirmSecondFactor,
  findSecondFactor,
  replaceBackupCodes,
  startSecondFactor,
  takeBackupCode,
  takePeriod,
} from '../../db/sign-in.ts'
import type { Clock, Random } from '../../runtime.ts'
import type { Seal } from '../seal.ts'

const SECRET_BYTES = 20
const PERIOD_SECONDS = 30
/** Codes of the period before and the one after count, too, for clocks differ. */
const WINDOW = 1
const BACKUP_CODES = 10
const BACKUP_CODE_CHARACTERS = 16
const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567'

const contextOf = (userId: string) => sealContext('second_factors', userId)

export interface SecondFactorParts {
  readonly seal: Seal
  readonly clock: Pick<Clock, 'now'>
  readonly random: Random
}

/** A code of the time, or one of the backup codes. */
export type Proof = { readonly code: string } | { readonly backup_code: string }

export interface SecondFactors {
  /** Makes a secret that counts once it is confirmed; undefined when there is one that counts already. */
  start(
    database: Database,
    user: { readonly id: string; readonly label: string },
  ): Promise<{ secret: string; otpauth_uri: string } | undefined>
  /** Takes the first code and answers with backup codes, to be shown once; undefined when the code is not right. */
  confirm(database: Database, userId: string, code: string): Promise<string[] | undefined>
  /** Whether the proof is right; each is taken once. */
  check(database: Database, userId: string, proof: Proof): Promise<boolean>
  /** New backup codes, in place of all before. */
  renewBackupCodes(database: Database, userId: string): Promise<string[]>
}

export function createSecondFactors({ seal, clock, random }: SecondFactorParts): SecondFactors {
  async function checkCode(
    database: Database,
    userId: string,
    code: string,
    confirmed: boolean,
  ): Promise<boolean> {
    const found = await findSecondFactor(database, userId)
    if (!found || found.confirmed !== confirmed) return false
    const totp = totpOf(Secret.fromBase32(seal.open(found.secretSealed, contextOf(userId))))
    const timestamp = clock.now()
    const delta = totp.validate({ token: code, timestamp, window: WINDOW })
    if (delta === null) return false
    return takePeriod(database, userId, found.secretSealed, totp.counter({ timestamp }) + delta)
  }

  const mintBackupCodes = () =>
    Array.from({ length: BACKUP_CODES }, () =>
      Array.from(random.bytes(BACKUP_CODE_CHARACTERS), (byte) => BASE32[byte & 31]).join(''),
    )

  return {
    async start(database, { id, label }) {
      const secret = new Secret({ buffer: Uint8Array.from(random.bytes(SECRET_BYTES)).buffer })
      const started = await startSecondFactor(database, id, seal.seal(secret.base32, contextOf(id)))
      return started ? { secret: secret.base32, otpauth_uri: totpOf(secret, label).toString() } : undefined
    },
    async confirm(database, userId, code) {
      if (!(await checkCode(database, userId, code, false))) return undefined
      const codes = mintBackupCodes()
      await confirmSecondFactor(database, userId, codes.map(hashOfBackupCode))
      return codes.map(readable)
    },
    check: (database, userId, proof) =>
      'code' in proof
        ? checkCode(database, userId, proof.code, true)
        : takeBackupCode(database, userId, hashOfBackupCode(proof.backup_code)),
    async renewBackupCodes(database, userId) {
      const codes = mintBackupCodes()
      await replaceBackupCodes(database, userId, codes.map(hashOfBackupCode))
      return codes.map(readable)
    },
  }
}

function totpOf(secret: Secret, label = ''): TOTP {
  return new TOTP({ issuer: 'Beacon', label, algorithm: 'SHA1', digits: 6, period: PERIOD_SECONDS, secret })
}

/** Eighty random bits need no slow hash. Spaces, hyphens and capitals are the typist's. */
function hashOfBackupCode(code: string): Buffer {
  return createHash('sha256').update(code.toLowerCase().replace(/[\s-]/g, '')).digest()
}

const readable = (code: string) => code.replace(/(.{4})(?=.)/g, '$1-')
