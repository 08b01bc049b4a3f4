import { computed, effect, signal } from '@preact/signals'
import { Authority, DEPLOYMENT, type Place } from '../../../src/access/authority.ts'
import type { Scope } from '../../../src/access/scopes.ts'
import { api, signedOut } from '../api/client.ts'
import { Problem } from '../api/problem.ts'
import type { WhoAmI } from '../api/types.ts'

/** Who looks at the page: not known yet, nobody, somebody; or the server could not say. */
type Visitor =
  | { readonly kind: 'unknown' }
  | { readonly kind: 'nobody' }
  | { readonly kind: 'failed'; readonly error: unknown }
  | { readonly kind: 'somebody'; readonly who: WhoAmI }

export const visitor = signal<Visitor>({ kind: 'unknown' })

/** Asks the server who is signed in. */
export async function lookAgain(): Promise<void> {
  try {
    visitor.value = { kind: 'somebody', who: await api.get<WhoAmI>('/api/session') }
  } catch (error) {
    visitor.value =
      error instanceof Problem && error.status === 401 ? { kind: 'nobody' } : { kind: 'failed', error }
  }
}

/** From the first refusal on nobody is signed in; what was being looked at comes back after the next sign-in. */
export function watchForTheEnd(): () => void {
  let seen = signedOut.value
  return effect(() => {
    if (signedOut.value === seen) return
    seen = signedOut.value
    visitor.value = { kind: 'nobody' }
  })
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
