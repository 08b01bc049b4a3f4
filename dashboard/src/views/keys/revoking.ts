interface Token {
  readonly lifecycle: string
  readonly token_issued_at: string | null
  readonly token_revoked_at: string | null
}

/** Whether revoking would end something. */
export function hasToken({ token_issued_at, token_revoked_at }: Token): boolean {
  return token_issued_at !== null && token_revoked_at === null
}

export function robots(count: number, isMore = false): string {
  if (isMore) return `more than ${count.toLocaleString('en')} robots`
  return `${count.toLocaleString('en')} ${count === 1 ? 'robot' : 'robots'}`
}

/** What was done, when it was. */
export function toldOf(
  name: string,
  wasRevoked: boolean,
  { robots_revoked, robots_out_of_reach }: { robots_revoked: number; robots_out_of_reach: number },
): string {
  const parts = wasRevoked ? [] : [`“${name}” is revoked.`]
  if (wasRevoked || robots_revoked > 0) parts.push(`${robots(robots_revoked)} revoked.`)
  if (robots_out_of_reach > 0)
    parts.push(`${robots(robots_out_of_reach)} elsewhere, where you may not change robots, stay.`)
  return parts.join(' ')
}
