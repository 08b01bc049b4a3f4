const GROUPS: Readonly<Record<string, readonly [one: string, many: string]>> = {
  personal_tokens: ['personal token', 'personal tokens'],
  fleet_tokens: ['fleet token', 'fleet tokens'],
  enrollment_keys: ['enrollment key', 'enrollment keys'],
  provisioning_tokens: ['provisioning token', 'provisioning tokens'],
  setup_tokens: ['setup token', 'setup tokens'],
  sign_in_sessions: ['session of somebody signed in', 'sessions of people signed in'],
  invitations: ['invitation', 'invitations'],
  robots: ['robot’s token', 'robots’ tokens'],
}

/** `3 fleet tokens`; a group that is not known by its name. */
export function groupSays(group: string, count: number): string {
  const [one, many] = GROUPS[group] ?? [group, group]
  return `${count.toLocaleString('en')} ${count === 1 ? one : many}`
}

export function totalSays({ total }: { readonly total: number }): string {
  return `${total.toLocaleString('en')} ${total === 1 ? 'credential' : 'credentials'}`
}
