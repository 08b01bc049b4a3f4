import { remarkOnPlainText } from './addresses.ts'
import type { Credential } from './credential.ts'
import { type EnrolmentParts, type EnrolmentWish, enrol } from './enrol.ts'
import { ClaimRefused, EXIT, TokenRefused } from './exit.ts'
import type { AgentSettings } from './settings.ts'
import type { Identity } from './state.ts'
import type { Store } from './store.ts'

/** How a robot becomes somebody: at first, with a setup token that an operator made for it, and after its token is void. */
export interface BecomingParts extends Omit<EnrolmentParts, 'keepPending'> {
  readonly store: Store
  readonly settings: AgentSettings
  /** The credential that stands now where credentials are given. */
  readonly look: () => { readonly credential: Credential | undefined; readonly mistakes: readonly string[] }
}

/** Refused credentials that are remembered; the oldest go. */
const MAX_REFUSED = 16
/** A robot that works does not wait longer for new credentials: the next start asks again. */
const ATTEMPTS_BESIDE_IDENTITY = 4
/** A fleet that was shut out as one must not come back as one. */
const SHORTEST_PAUSE_MS = 500
const PAUSE_SPREAD_MS = 3_000

/** The identity to begin with: the saved one, unless there is none or a new setup token asks for another. */
export async function firstIdentity(parts: BecomingParts): Promise<Identity> {
  const { store, settings, log } = parts
  const { identity } = store
  if (!identity) return become(parts, settings.credential!)
  const { credential } = parts.look()
  if (!credential?.isSetupToken || !isNew(identity, credential)) return identity
  log.info(`${credential.label} is new: an operator wants this robot to have new credentials`)
  try {
    return await become(parts, credential, { attempts: ATTEMPTS_BESIDE_IDENTITY })
  } catch (error) {
    if (!(error instanceof ClaimRefused)) throw error
    rememberRefusal(store, credential, error)
    log.warn(`${error.message}. Going on as ${identity.name}, as this robot is enrolled already`)
    return store.identity!
  }
}

/**
 * Another identity, after the token of the one before was refused: by a credential that this robot neither enrolled with
 * nor tried since. Each is tried once. Whether it brings the robot back is the server's to say. Throws AgentExit, with
 * what a person can do, when there is none.
 */
export async function nextIdentity(parts: BecomingParts, refusal: TokenRefused): Promise<Identity> {
  const { store, log, clock, random, signal } = parts
  const identity = store.identity!
  const { credential, mistakes } = parts.look()
  const why = withoutStop(refusal.message)
  if (!credential) throw new TokenRefused(`${why}. ${whatToDo(mistakes)}`)
  if (!isNew(identity, credential)) throw new TokenRefused(`${why}; ${whatIsWrong(identity, credential)}`)
  log.warn(`${why}; enrolling anew with ${credential.label}`)
  await clock.sleep(SHORTEST_PAUSE_MS + random.fraction() * PAUSE_SPREAD_MS, signal)
  try {
    return await become(parts, credential, { wasConnected: true })
  } catch (error) {
    if (error instanceof ClaimRefused) rememberRefusal(store, credential, error)
    throw error
  }
}

function isNew(identity: Identity, { hash }: Credential): boolean {
  return identity.credentialHash !== hash && !identity.refusedCredentials?.includes(hash)
}

const NEW_KEY =
  'make a new enrollment key (one from before the revocation does not bring this robot back), write it into the key file and start the agent again'

function whatToDo(mistakes: readonly string[]): string {
  if (mistakes.length > 0) return `It cannot enrol anew: ${mistakes.join('; ')}`
  return 'What to do: make a new enrollment key and start the agent with it, as --enrollment-key-file or --enrollment-key'
}

function whatIsWrong(identity: Identity, credential: Credential): string {
  const { label, isSetupToken } = credential
  const before =
    identity.credentialHash === credential.hash
      ? `${label} is what it enrolled with`
      : `${label} was refused before`
  if (isSetupToken) return `${before}. What to do: ask an operator for a new setup token`
  return `${before}. What to do: ${NEW_KEY}`
}

function withoutStop(sentence: string): string {
  return sentence.replace(/\.$/, '')
}

async function become(
  parts: BecomingParts,
  credential: Credential,
  how: Pick<EnrolmentWish, 'wasConnected' | 'attempts'> = {},
): Promise<Identity> {
  const { store, settings, log } = parts
  const before = store.identity
  // Where it enrolled, unless a person names another server now.
  const server = before && !settings.serverIsExplicit ? before.server : settings.server
  const remark = remarkOnPlainText(server)
  if (remark) log.warn(remark)
  // Should it become another robot by this, it keeps its name if that is free.
  const name = settings.name ?? before?.name
  const identity = await enrol(
    { server, credential, name, pending: store.pending, ...how },
    { ...parts, keepPending: (pending) => store.keepPending(pending) },
  )
  store.becomeIdentity(identity)
  const again = before && before.robotId === identity.robotId ? ' again' : ''
  log.info(`enrolled${again} as ${identity.name} (id ${identity.robotId})`)
  return identity
}

/** A refusal for good is not asked for twice. Whatever else stood in the way may have gone by the next start. */
function rememberRefusal(store: Store, credential: Credential, { exitCode }: ClaimRefused): void {
  const { identity } = store
  if (!identity || exitCode !== EXIT.refused) return
  const refusedCredentials = [...(identity.refusedCredentials ?? []), credential.hash].slice(-MAX_REFUSED)
  store.keepIdentity({ ...identity, refusedCredentials })
}
