import { actorOfPrincipal, type Principal } from '../access/principal.ts'
import type { TokenUse } from '../audit/audit.ts'

/** A use of a principal, for the audit log. A fleet's own token is used in its fleet; a person's anywhere. */
export function useOf(principal: Principal, address: string, at: number): TokenUse {
  const { kind, userId, userName, authority } = principal
  const place = kind === 'fleet_token' ? authority.grants[0]?.place : undefined
  const user = userId === null ? null : { id: userId, name: userName }
  return { actor: actorOfPrincipal(principal), address, at, user, ...place }
}
