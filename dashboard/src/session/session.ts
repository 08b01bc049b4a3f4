import { batch, computed, effect, signal } from '@preact/signals'
import { Authority, DEPLOYMENT, type Place, type RoleAt } from '../../../src/access/authority.ts'
import { mayAnswerFor } from '../../../src/access/people.ts'
import type { Scope } from '../../../src/access/scopes.ts'
import { api, signedOut } from '../api/client.ts'
import { Problem } from '../api/problem.ts'
import type { WhoAmI } from '../api/types.ts'

/** Who looks at the page: not known yet, nobody, somebody; or the server could not say. */
type Visitor =
  | { readonly kind: 'unknown' }
  /** `ended`: somebody was, until a moment ago. */
  | { readonly kind: 'nobody'; readonly ended: boolean }
  | { readonly kind: 'failed'; readonly error: unknown }
  | { readonly kind: 'somebody'; readonly who: WhoAmI }

export const visitor = signal<Visitor>({ kind: 'unknown' })

/** They have to set up a second factor, or have just done so and still have backup codes before them. */
export const isSettingUp = signal(false)

/** What was asked before somebody signed in or out says nothing about now. */
let round = 0

function become(next: Visitor): void {
  round += 1
  batch(() => {
    visitor.value = next
    if (next.kind === 'nobody') isSettingUp.value = false
    if (next.kind === 'somebody' && next.who.must !== null) isSettingUp.value = true
  })
}

export async function finishSettingUp(): Promise<void> {
  await lookAgain()
  isSettingUp.value = false
}

function becomeNobody(): void {
  become({ kind: 'nobody', ended: visitor.peek().kind === 'somebody' })
}

/** A server that does not say within this time who is here is taken for gone. */
const ANSWER_MS = 8_000
let looking = 0

/** Asks unless that is being asked already: a server that does not answer is not asked more and more. */
export async function lookIfIdle(): Promise<void> {
  if (looking === 0) await lookAgain()
}

/** Asks the server who is signed in. */
export async function lookAgain(): Promise<void> {
  const asked = round
  looking += 1
  try {
    const who = await api.get<WhoAmI>('/api/session', undefined, { timeoutMs: ANSWER_MS })
    const before = visitor.peek()
    const isSame = before.kind === 'somebody' && JSON.stringify(before.who) === JSON.stringify(who)
    if (asked === round && !isSame) become({ kind: 'somebody', who })
  } catch (error) {
    if (asked !== round) return
    if (error instanceof Problem && error.status === 401) becomeNobody()
    // Whoever is here stays while the server is away.
    else if (visitor.peek().kind !== 'somebody') become({ kind: 'failed', error })
  } finally {
    looking -= 1
  }
}

export async function signOut(): Promise<void> {
  await api.post('/api/sign-out')
  become({ kind: 'nobody', ended: false })
}

/** From the first refusal on nobody is signed in; what was being looked at comes back after the next sign-in. */
export function watchForTheEnd(): () => void {
  let seen = signedOut.value
  return effect(() => {
    if (signedOut.value === seen) return
    seen = signedOut.value
    if (visitor.peek().kind === 'somebody') becomeNobody()
  })
}

/** How soon a page notices that roles were changed, or that its session was ended elsewhere. */
const LOOK_EVERY_MS = 5_000
/** A page that nobody touches asks for nothing: it must not keep alive a session that nobody uses. */
const LEFT_ALONE_MS = 15 * 60_000

/** Looks again who is signed in, as long as somebody uses the page, and at once when they come back to it. */
export function watchStanding(): () => void {
  let usedAt = Date.now()
  let lookedAt = usedAt
  const look = () => {
    if (document.hidden || visitor.peek().kind !== 'somebody') return
    if (Date.now() - usedAt > LEFT_ALONE_MS) return
    lookedAt = Date.now()
    void lookIfIdle()
  }
  const used = () => {
    usedAt = Date.now()
    if (usedAt - lookedAt > 2 * LOOK_EVERY_MS) look()
  }
  const timer = setInterval(look, LOOK_EVERY_MS)
  const signs = ['pointermove', 'pointerdown', 'keydown', 'visibilitychange'] as const
  for (const sign of signs) document.addEventListener(sign, used, { passive: true })
  return () => {
    clearInterval(timer)
    for (const sign of signs) document.removeEventListener(sign, used)
  }
}

const authority = computed(() => {
  const found = visitor.value
  if (found.kind !== 'somebody') return Authority.NONE
  const roles = found.who.roles.map(({ role, site_id, fleet_id }) => ({
    role,
    place: { siteId: site_id, fleetId: fleet_id },
  }))
  return Authority.ofRoles(roles, found.who.scopes)
})

/** Whether the viewer may do this at a place. For what is shown only: the server decides. */
export function may(
  scope: Scope,
  at?: { readonly site_id: string; readonly fleet_id?: string | null },
): boolean {
  const place: Place = at ? { siteId: at.site_id, fleetId: at.fleet_id ?? null } : DEPLOYMENT
  return authority.value.covers(scope, place)
}

/** Whether they may do it anywhere at all. */
export function maySomewhere(scope: Scope): boolean {
  return authority.value.holds(scope)
}

export function isOwner(): boolean {
  return authority.value.isOwner
}

/** Whether they may make, change and take away a role at its place. */
export function mayGrant(role: RoleAt): boolean {
  return authority.value.mayGrant(role)
}

/** Whether they may decide how somebody signs in who holds these roles. */
export function mayDecideAbout(roles: readonly RoleAt[]): boolean {
  return mayAnswerFor(authority.value, roles)
}

/** Whether they may take away the tokens and sessions of somebody who holds these roles. */
export function manages(roles: readonly RoleAt[]): boolean {
  return authority.value.manages(roles)
}

/** The scopes that they hold somewhere, out of these. */
export function held<Of extends Scope>(scopes: readonly Of[]): Of[] {
  return scopes.filter((scope) => authority.value.holds(scope))
}
