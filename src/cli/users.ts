import type { Client } from './client.ts'
import { CliError, EXIT } from './failure.ts'
import { confirm, connect, type OperatorOptions, printJson, printLines } from './operator.ts'
import { findFleet, findSite } from './places.ts'
import { printTable } from './print-table.ts'
import type { Fleet, Site } from './shapes.ts'
import type { Terminal } from './terminal.ts'
import { age, printable, when } from './text.ts'

interface Role {
  readonly role: string
  readonly site_id: string | null
  readonly fleet_id: string | null
}

interface User {
  readonly id: string
  readonly name: string
  readonly email: string | null
  readonly roles: readonly Role[]
  readonly status: string
  readonly second_factor: boolean
  readonly last_signed_in_at: string | null
}

interface Invited extends User {
  readonly accept_url: string | null
  readonly invitation_expires_at: string
}

/** `operator`, `operator@hamburg` or `operator@hamburg/pickers`. */
async function roleOf(client: Client, text: string): Promise<Partial<Role>> {
  const [, role, place] = /^([a-z]+)(?:@(.+))?$/.exec(text) ?? []
  if (role === undefined)
    throw new CliError(`"${printable(text)}" is not a role like operator or operator@site/fleet`, EXIT.usage)
  if (place === undefined) return { role }
  const slash = place.indexOf('/')
  const site = await findSite(client, slash < 0 ? place : place.slice(0, slash))
  if (slash < 0) return { role, site_id: site.id }
  return { role, fleet_id: (await findFleet(client, place.slice(slash + 1), site)).id }
}

const rolesOf = (client: Client, texts: readonly string[]) =>
  Promise.all(texts.map((text) => roleOf(client, text)))

/** Somebody by their id, their email or else their name. */
async function findUser(client: Client, wanted: string): Promise<User> {
  const { items } = await client.list<User>('/api/users')
  const found = items.find(({ id, email }) => id === wanted || email === wanted.toLowerCase())
  if (found) return found
  // People choose their own names: nobody is taken for another by a name that looks like an email or id.
  if (/@|^[0-9a-f]{8}-[0-9a-f-]{27}$/i.test(wanted))
    throw new CliError(`there is nobody with the email or id "${printable(wanted)}" within your reach`)
  const named = items.filter(({ name }) => name === wanted)
  if (named.length > 1)
    throw new CliError(
      `several people are called "${printable(wanted)}": ${named.map(({ id }) => id).join(', ')}`,
    )
  if (!named[0]) throw new CliError(`there is nobody called "${printable(wanted)}"`)
  return named[0]
}

export async function listUsers(terminal: Terminal, options: OperatorOptions): Promise<void> {
  const client = connect(options, terminal)
  const users = await client.list<User>('/api/users')
  if (options.json) return printJson(terminal, users)
  const names = await placeNames(client, users.items)
  const now = terminal.clock.now()
  printTable(terminal, users.items, 'There is nobody within your reach.', [
    { title: 'NAME', cell: (user) => printable(user.name), minWidth: 8 },
    { title: 'EMAIL', cell: (user) => printable(user.email ?? '-'), minWidth: 8, dropOrder: 2 },
    { title: 'ROLES', cell: (user) => user.roles.map(names).join(', ') || '-', minWidth: 8 },
    { title: 'STATUS', cell: (user) => printable(user.status) },
    { title: '2ND FACTOR', cell: (user) => (user.second_factor ? 'yes' : 'no'), dropOrder: 3 },
    { title: 'SIGNED IN', cell: (user) => age(user.last_signed_in_at, now), align: 'right', dropOrder: 4 },
    { title: 'ID', cell: (user) => user.id, dropOrder: 1 },
  ])
}

/** How roles are written, with the names of their places where there are any. */
async function placeNames(client: Client, users: readonly User[]): Promise<(role: Role) => string> {
  const placed = users.some(({ roles }) => roles.some(({ site_id, fleet_id }) => site_id ?? fleet_id))
  const sites = placed ? (await client.list<Site>('/api/sites')).items : []
  const fleets = placed ? (await client.list<Fleet>('/api/fleets')).items : []
  const nameOf = (id: string) => sites.find((site) => site.id === id)?.name ?? id
  return ({ role, site_id, fleet_id }) => {
    if (fleet_id) {
      const fleet = fleets.find(({ id }) => id === fleet_id)
      return printable(`${role}@${fleet ? `${nameOf(fleet.site_id)}/${fleet.name}` : fleet_id}`)
    }
    return printable(site_id ? `${role}@${nameOf(site_id)}` : role)
  }
}

interface InviteOptions extends OperatorOptions {
  readonly name: string
  readonly email: string
  readonly role: readonly string[]
}

function printInvitation(terminal: Terminal, user: Invited): void {
  if (user.accept_url === null)
    throw new CliError(
      `the invitation was made, but lost on its way; make another: beacon users invite-again ${user.id}`,
    )
  printLines(terminal, [
    `${printable(user.name)} can come in until ${when(user.invitation_expires_at)}. Hand this to nobody else; it is shown only now:`,
    '',
    `  ${terminal.out.style('bold', printable(user.accept_url))}`,
    '',
    'From a command line: beacon login --accept-invitation',
  ])
}

export async function inviteUser(terminal: Terminal, options: InviteOptions): Promise<void> {
  const client = connect(options, terminal)
  const roles = await rolesOf(client, options.role)
  const user = await client.post<Invited>('/api/users', { name: options.name, email: options.email, roles })
  if (options.json) return printJson(terminal, user)
  printInvitation(terminal, user)
}

interface AgainOptions extends OperatorOptions {
  readonly email?: string
  readonly forgetIdentity?: boolean
}

export async function inviteAgain(terminal: Terminal, wanted: string, options: AgainOptions): Promise<void> {
  const client = connect(options, terminal)
  const { id } =
    wanted === 'me'
      ? (await client.get<{ user: { id: string } }>('/api/session')).user
      : await findUser(client, wanted)
  const user = await client.post<Invited>(`/api/users/${id}/invite`, {
    ...(options.email === undefined ? {} : { email: options.email }),
    ...(options.forgetIdentity ? { forget_identity: true } : {}),
  })
  if (options.json) return printJson(terminal, user)
  printInvitation(terminal, user)
}

interface ChangeOptions extends OperatorOptions {
  readonly name?: string
  readonly email?: string
  readonly role?: readonly string[]
  readonly noRoles?: boolean
}

export async function changeUser(terminal: Terminal, wanted: string, options: ChangeOptions): Promise<void> {
  if (options.role && options.noRoles)
    throw new CliError('--role and --no-roles exclude each other', EXIT.usage)
  const client = connect(options, terminal)
  const { id } = await findUser(client, wanted)
  const roles = options.noRoles ? [] : options.role && (await rolesOf(client, options.role))
  const change = Object.fromEntries(
    Object.entries({ name: options.name, email: options.email, roles }).filter(
      ([, value]) => value !== undefined,
    ),
  )
  if (Object.keys(change).length === 0) throw new CliError('say what to change', EXIT.usage)
  const user = await client.patch<User>(`/api/users/${id}`, change)
  if (options.json) return printJson(terminal, user)
  const names = await placeNames(client, [user])
  printLines(terminal, [`${printable(user.name)} holds: ${user.roles.map(names).join(', ') || 'nothing'}`])
}

interface SureOptions extends OperatorOptions {
  readonly yes?: boolean
}

export async function removeUser(terminal: Terminal, wanted: string, options: SureOptions): Promise<void> {
  const client = connect(options, terminal)
  const user = await findUser(client, wanted)
  await confirm(terminal, options.yes, `Remove ${printable(user.name)}, with all their tokens and sessions?`)
  await client.delete(`/api/users/${user.id}`)
  if (options.json) return printJson(terminal, { id: user.id, removed: true })
  printLines(terminal, [`${printable(user.name)} is removed`])
}

export async function resetSecondFactor(
  terminal: Terminal,
  wanted: string,
  options: SureOptions,
): Promise<void> {
  const client = connect(options, terminal)
  const user = await findUser(client, wanted)
  await confirm(
    terminal,
    options.yes,
    `Take away the second factor of ${printable(user.name)}? Until they set up another, their password alone lets them in.`,
  )
  const after = await client.post<User>(`/api/users/${user.id}/reset-second-factor`)
  if (options.json) return printJson(terminal, after)
  printLines(terminal, [`${printable(user.name)} has no second factor any more`])
}
