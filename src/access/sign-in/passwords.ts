import { hash, parseOptions, verify } from '@node-rs/argon2'
import { BeaconError } from '../../errors.ts'
import type { Random } from '../../runtime.ts'
import { COMMON_PASSWORDS } from './common-passwords.ts'

/** OWASP's first choice for Argon2id: 19 MiB, two passes, one lane. */
const PARAMETERS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 }
/** At work at the same time: sign-ins must not take the processor from the robots. */
const AT_ONCE = 2
/** More than this wait for nobody: they are told to come back. */
const WAITING = 40
export const MIN_PASSWORD_LENGTH = 12
export const MAX_PASSWORD_BYTES = 1024

/** Hashes passwords and compares them, a few at a time. */
export interface Passwords {
  hash(password: string): Promise<string>
  /**
   * Whether this is the password of the hash. Without a hash the answer is no, after the same work, so that nobody learns
   * from the time it takes whether there was one.
   */
  verify(hash: string | null, password: string): Promise<boolean>
  /** Whether a hash was made with other parameters than new ones are. */
  outdated(hash: string): boolean
}

/** The work itself; handed in so that tests can count it. */
export interface PasswordFunction {
  hash(password: string, parameters: typeof PARAMETERS): Promise<string>
  verify(hash: string, password: string): Promise<boolean>
}

export function createPasswords(random: Random, work: PasswordFunction = { hash, verify }): Passwords {
  const inTurn = turns()
  const hashOf = (password: string) => inTurn(() => work.hash(password.normalize('NFKC'), PARAMETERS))
  let nobodys: Promise<string> | undefined
  return {
    hash: hashOf,
    async verify(known, password) {
      // Of a password that nobody knows.
      nobodys ??= hashOf(random.bytes(32).toString('hex')).catch((error: unknown) => {
        nobodys = undefined
        throw error
      })
      const against = known ?? (await nobodys)
      const right = await inTurn(() => work.verify(against, password.normalize('NFKC')))
      return right && known !== null
    },
    outdated(known) {
      const { memoryCost, timeCost, parallelism } = parseOptions(known)
      return (
        memoryCost !== PARAMETERS.memoryCost ||
        timeCost !== PARAMETERS.timeCost ||
        parallelism !== PARAMETERS.parallelism
      )
    },
  }
}

/** Lets a few work at the same time and some wait. */
function turns() {
  let atWork = 0
  const waiting: (() => void)[] = []
  return async <Result>(work: () => Promise<Result>): Promise<Result> => {
    if (atWork < AT_ONCE) atWork += 1
    else if (waiting.length >= WAITING)
      throw new BeaconError('overloaded', 'too many people sign in at the moment', { retryAfterSeconds: 2 })
    // Whoever ends hands their place on.
    else await new Promise<void>((resolve) => waiting.push(resolve))
    try {
      return await work()
    } finally {
      const next = waiting.shift()
      if (next) next()
      else atWork -= 1
    }
  }
}

/** What is wrong with a password that somebody wants to take; undefined: nothing. */
export function weakness(
  password: string,
  { email, name }: { email: string | null; name: string },
): string | undefined {
  if ([...password].length < MIN_PASSWORD_LENGTH)
    return `must be at least ${MIN_PASSWORD_LENGTH} characters long`
  if (Buffer.byteLength(password.normalize('NFKC')) > MAX_PASSWORD_BYTES)
    return `must be at most ${MAX_PASSWORD_BYTES} bytes long`
  const plain = password.normalize('NFKC').toLowerCase()
  if (new Set(plain).size < 5) return 'must hold at least five different characters'
  const own = [email, email?.split('@', 1)[0], name].map((text) => text?.toLowerCase() ?? '')
  if (own.some((text) => text.length >= 4 && plain.includes(text))) return 'must not hold your email or name'
  if (isCommon(plain)) return 'is one of those that are tried first'
  return undefined
}

/** Common ones are common, too, with digits or signs around them, or twice. */
function isCommon(plain: string): boolean {
  const core = plain.replace(/^[^\p{L}]+|[^\p{L}]+$/gu, '')
  const half = plain.length % 2 === 0 ? plain.slice(0, plain.length / 2) : ''
  const doubled = half !== '' && plain === half + half
  return [plain, core, doubled ? half : ''].some((text) =>
    COMMON_PASSWORDS.has(text.replace(/[\s._-]+/g, '')),
  )
}
