import type { AccessToken } from '../../api/types.ts'

/** Where a token is rotated or revoked: a fleet's under its fleet. */
export function pathOf(
  { id, fleet_id }: Pick<AccessToken, 'id' | 'fleet_id'>,
  deed: 'rotate' | 'revoke',
): string {
  return fleet_id === null ? `/api/tokens/${id}/${deed}` : `/api/fleets/${fleet_id}/tokens/${id}/${deed}`
}
