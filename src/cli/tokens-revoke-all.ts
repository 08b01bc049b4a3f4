import type { Client } from './client.ts'
import { CliError, EXIT } from './failure.ts'
import { confirm, connect, type OperatorOptions, printJson } from './operator.ts'
import { findFleet, findSite } from './places.ts'
import { tableLines } from './print-table.ts'
import type { Terminal } from './terminal.ts'
import { printable } from './text.ts'

interface Listed {
  readonly id: string
  readonly name: string | null
  readonly last_four: string | null
}

interface RevokedAll {
  readonly dry_run: boolean
  readonly total: number
  readonly includes_current: boolean
  readonly revoked: Readonly<Record<string, { readonly count: number; readonly items: readonly Listed[] }>>
}

interface Options extends OperatorOptions {
  readonly mine?: boolean
  readonly user?: string
  readonly fleet?: string
  readonly site?: string
  readonly deployment?: boolean
  readonly robots?: boolean
  readonly only?: readonly string[]
  readonly keepCurrent?: boolean
  readonly dryRun?: boolean
  readonly yes?: boolean
}

/** Items of each kind that a person is shown. */
const SHOWN = 10

async function wholeOf(client: Client, options: Options): Promise<Record<string, unknown>> {
  const given = [options.mine, options.user, options.fleet, options.deployment].filter(Boolean).length
  if (given !== 1) throw new CliError('say whose: one of --mine, --user, --fleet or --deployment', EXIT.usage)
  if (options.user !== undefined) return { user_id: options.user }
  if (options.fleet !== undefined) {
    const site = options.site === undefined ? undefined : await findSite(client, options.site)
    return { fleet_id: (await findFleet(client, options.fleet, site)).id }
  }
  if (options.deployment) return { deployment: true }
  const self = await client.get<{ user_id: string | null }>('/api/tokens/self')
  if (self.user_id === null)
    throw new CliError('a fleet’s token belongs to nobody: name the fleet with --fleet')
  return { user_id: self.user_id }
}

/** What goes, or went, for a person to read. */
function linesOf(terminal: Terminal, { dry_run, total, includes_current, revoked }: RevokedAll): string[] {
  const groups = Object.entries(revoked).filter(([, { count }]) => count > 0)
  const lines: string[] = []
  for (const [group, { count, items }] of groups) {
    lines.push(`${printable(group.replaceAll('_', ' '))}: ${count}`)
    const shown = tableLines(terminal, items.slice(0, SHOWN), [
      { title: '  ID', cell: (item) => `  ${printable(item.id)}` },
      { title: 'NAME', cell: (item) => printable(item.name ?? '-'), minWidth: 8 },
      {
        title: 'ENDS IN',
        cell: (item) => (item.last_four === null ? '-' : printable(item.last_four)),
        hiddenWhenEmpty: true,
      },
    ])
    lines.push(...shown, ...(count > SHOWN ? [`  and ${count - SHOWN} more`] : []))
  }
  lines.push(
    total === 0
      ? 'Nothing stands that could be revoked.'
      : `${total} ${dry_run ? 'would be' : 'are'} revoked.`,
  )
  if (includes_current) lines.push('The token that you use now is among them: --keep-current leaves it.')
  return lines
}

export async function revokeAll(terminal: Terminal, options: Options): Promise<void> {
  const client = connect(options, terminal)
  const request = {
    of: await wholeOf(client, options),
    ...(options.robots ? { include: ['robots'] } : {}),
    ...(options.only ? { only: options.only } : {}),
    ...(options.keepCurrent ? { except_current: true } : {}),
  }
  const ask = (dry_run: boolean) => client.post<RevokedAll>('/api/tokens/revoke-all', { ...request, dry_run })
  const print = (to: 'out' | 'err', answer: RevokedAll) =>
    terminal[to].write(`${linesOf(terminal, answer).join('\n')}\n`)
  if (options.dryRun || !options.yes) {
    const dry = await ask(true)
    if (options.dryRun) return options.json ? printJson(terminal, dry) : print('out', dry)
    print('err', dry)
    if (dry.total === 0) return options.json ? printJson(terminal, dry) : undefined
    await confirm(terminal, false, 'Revoke all of this?')
  }
  const answer = await ask(false)
  if (options.json) printJson(terminal, answer)
  else print('out', answer)
}
