import type { Client } from './client.ts'
import { said } from './credentials.ts'
import { CliError, EXIT } from './failure.ts'
import { confirm, connect, type OperatorOptions, printJson, printLines } from './operator.ts'
import { findFleet, findSite } from './places.ts'
import { findRobot } from './robots.ts'
import type { Robot, RotationRequests } from './shapes.ts'
import type { Terminal } from './terminal.ts'
import { hoursOf, printable } from './text.ts'

export interface RotateOptions extends OperatorOptions {
  readonly site?: string
  readonly fleet?: string
  readonly connection?: readonly string[]
  readonly lifecycle?: readonly string[]
  readonly label?: readonly string[]
  readonly olderThan?: string
  readonly notRequested?: boolean
  readonly all?: boolean
  readonly reason?: string
  readonly dryRun?: boolean
  readonly yes?: boolean
}

/** Robots that a question names; of more it tells the number. */
const NAMED = 5

/** Asks the robots named for new tokens, or those that the filter finds; `--all` stands for all there are. */
export async function rotateTokens(
  terminal: Terminal,
  wanted: readonly string[],
  options: RotateOptions,
): Promise<void> {
  const reason = options.reason ?? 'operator'
  if (reason !== 'operator' && reason !== 'suspicion')
    throw new CliError('--reason takes operator or suspicion', EXIT.usage)
  const client = connect(options, terminal)
  const filter = await filterOf(client, options)
  const ways = [wanted.length > 0, filter !== undefined, options.all === true].filter(Boolean).length
  if (ways !== 1) throw new CliError('name the robots, or give a filter, or --all: one of these', EXIT.usage)
  if (wanted.length === 1 && !options.dryRun) return rotateOne(terminal, client, wanted[0]!, reason, options)
  const robotIds: string[] = []
  for (const each of wanted) robotIds.push((await findRobot(client, each)).id)
  const chosen = robotIds.length > 0 ? { ids: robotIds } : { filter: filter ?? {} }
  await rotateMany(terminal, client, chosen, reason, options)
}

async function rotateOne(
  terminal: Terminal,
  client: Client,
  wanted: string,
  reason: string,
  options: RotateOptions,
): Promise<void> {
  const robot = await findRobot(client, wanted)
  const after = await client.post<Robot>(`/api/robots/${robot.id}/rotate-token`, { reason })
  if (options.json) return printJson(terminal, after)
  const when = after.connection === 'online' ? 'now' : 'when it next connects'
  printLines(terminal, [
    `${printable(robot.name)} is asked for a new token ${when}; the old one holds until then`,
  ])
}

async function rotateMany(
  terminal: Terminal,
  client: Client,
  chosen: Record<string, unknown>,
  reason: string,
  options: RotateOptions,
): Promise<void> {
  const path = '/api/robots/rotate-tokens'
  const ask = (dryRun: boolean) => client.post<RotationRequests>(path, { ...chosen, reason, dry_run: dryRun })
  if (options.dryRun || !options.yes) {
    const dry = await ask(true)
    if (options.dryRun) return tell(terminal, dry, options)
    if (dry.requested > 0)
      await confirm(terminal, options.yes, `Ask ${countOf(dry)} for new tokens${namesOf(dry)}?`)
  }
  tell(terminal, await ask(false), options)
}

function tell(terminal: Terminal, answer: RotationRequests, options: RotateOptions): void {
  if (options.json) printJson(terminal, answer)
  else printLines(terminal, [sentenceOf(answer)])
}

function sentenceOf(answer: RotationRequests): string {
  if (answer.requested === 0) return 'no robot with a token matches'
  const done = answer.dry_run ? 'would be asked' : answer.requested === 1 ? 'is asked' : 'are asked'
  const left = answer.matched - answer.requested
  const rest = left > 0 ? `; ${left} more match: ask again with --not-requested` : ''
  return `${countOf(answer)} ${done} for new tokens${namesOf(answer)}${rest}`
}

const countOf = ({ requested }: RotationRequests) => (requested === 1 ? '1 robot' : `${requested} robots`)

function namesOf({ robots, requested }: RotationRequests): string {
  if (requested > NAMED) return ''
  return ` (${robots.map(({ name }) => printable(name)).join(', ')})`
}

/** What the filter options stand for; undefined: none was given. */
async function filterOf(
  client: Client,
  options: RotateOptions,
): Promise<Record<string, unknown> | undefined> {
  const site = options.site === undefined ? undefined : await findSite(client, options.site)
  const fleet = options.fleet === undefined ? undefined : await findFleet(client, options.fleet, site)
  const filter = said({
    site: site?.id,
    fleet: fleet?.id,
    connection: options.connection,
    lifecycle: options.lifecycle,
    label: options.label,
    token_older_than_days: options.olderThan === undefined ? undefined : daysOf(options.olderThan),
    not_requested: options.notRequested,
  })
  return Object.keys(filter).length === 0 ? undefined : filter
}

function daysOf(text: string): number {
  const hours = hoursOf(text)
  if (hours === null || hours % 24 !== 0)
    throw new CliError('--older-than takes whole days, like 90d', EXIT.usage)
  return hours / 24
}
