import {
  type ListOptions,
  limitOf,
  type PolicyOptions,
  policiesOf,
  printCredentials,
  said,
} from './credentials.ts'
import { CliError } from './failure.ts'
import { connect, printJson, printLines } from './operator.ts'
import { findFleet, findSite } from './places.ts'
import type { ProvisioningToken } from './shapes.ts'
import type { Terminal } from './terminal.ts'
import { hoursOf, printable, remaining, when } from './text.ts'

export const PROVISIONING_TOKENS = { path: '/api/provisioning-tokens', noun: 'provisioning token' }

interface CreateOptions extends PolicyOptions {
  readonly site?: string
  readonly fleet: string
  readonly name: string
  readonly expiresIn?: string
  readonly singleUse?: boolean
}

const HOURS_IN_DAY = 24

function daysOf(text: string): number | null {
  const hours = hoursOf(text)
  return hours === null ? null : hours / HOURS_IN_DAY
}

export async function createProvisioningToken(terminal: Terminal, options: CreateOptions): Promise<void> {
  const request = said({
    name: options.name,
    expires_in_days: options.expiresIn === undefined ? undefined : daysOf(options.expiresIn),
    single_use: options.singleUse,
    ...policiesOf(options),
  })
  const client = connect(options, terminal)
  const site = options.site === undefined ? undefined : await findSite(client, options.site)
  const fleet = await findFleet(client, options.fleet, site)
  const made = await client.post<ProvisioningToken>(PROVISIONING_TOKENS.path, {
    ...request,
    fleet_id: fleet.id,
  })
  if (options.json) return printJson(terminal, made)
  // The first answer was lost on the way, and the second no longer holds what is shown only once.
  if (!made.token || !made.setup_command)
    throw new CliError(
      `the token was made, but its value was lost; make another, and: beacon provisioning-tokens revoke ${made.id}`,
    )
  const { out, clock } = terminal
  const until = made.expires_at
    ? `until ${when(made.expires_at)} (${remaining(Date.parse(made.expires_at) - clock.now())})`
    : 'for ever'
  printLines(terminal, [
    `Token "${printable(made.name)}" admits ${made.single_use ? 'one robot' : 'robots'} to ${printable(fleet.name)} ${until}:`,
    '',
    `  ${out.style('bold', printable(made.token))}`,
    '',
    'Nobody can read it again. On each robot:',
    '',
    `  ${printable(made.setup_command)}`,
    '',
    `Revoke it with: beacon provisioning-tokens revoke ${made.id}`,
  ])
}

export async function listProvisioningTokens(terminal: Terminal, options: ListOptions): Promise<void> {
  const limit = limitOf(options)
  const client = connect(options, terminal)
  const tokens = await client.list<ProvisioningToken>(PROVISIONING_TOKENS.path, { sort: options.sort }, limit)
  if (options.json) return printJson(terminal, tokens)
  await printCredentials(terminal, client, tokens, {
    whenEmpty:
      'There are no tokens yet. Make one with: beacon provisioning-tokens create --fleet <fleet> --name <name>',
    uses: (token) => (token.single_use ? `${token.uses}/1` : String(token.uses)),
    last: { title: 'ID', cell: (token) => token.id },
  })
}
