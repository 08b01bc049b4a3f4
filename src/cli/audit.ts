import { type AuditFilters, auditQuery } from './audit-filters.ts'
import { connect, type OperatorOptions, printJson } from './operator.ts'
import { printTable } from './print-table.ts'
import { NOTHING } from './table.ts'
import type { Terminal } from './terminal.ts'
import { countOf, printable, printableJson, when } from './text.ts'

interface AuditLine {
  readonly seq: number
  readonly at: string
  readonly action: string
  readonly outcome: string
  readonly actor: { readonly kind: string; readonly id: string | null; readonly name: string | null }
  readonly target: { readonly kind: string; readonly id: string; readonly name: string | null } | null
  readonly address: string | null
  readonly data: Readonly<Record<string, unknown>>
}

interface ListOptions extends OperatorOptions, AuditFilters {
  readonly limit?: string
  readonly all?: boolean
}

const DEFAULT_LIMIT = 50

const named = ({ kind, id, name }: { kind: string; id: string | null; name: string | null }) =>
  printable([kind, name ?? id].filter(Boolean).join(' '))

/** `beacon audit list`. */
export async function listAudit(terminal: Terminal, options: ListOptions): Promise<void> {
  const limit = options.all ? undefined : countOf(options.limit ?? String(DEFAULT_LIMIT), '--limit')
  const client = connect(options, terminal)
  const query = await auditQuery(client, options, terminal.clock.now())
  const lines = await client.list<AuditLine>('/api/audit', query, limit)
  if (options.json) return printJson(terminal, lines)
  const { out } = terminal
  printTable(terminal, lines.items, 'Nothing in the log matches.', [
    { title: 'SEQ', cell: ({ seq }) => String(seq), align: 'right' },
    { title: 'TIME', cell: ({ at }) => when(at) },
    {
      title: 'ACTION',
      cell: ({ action, outcome }) =>
        outcome === 'ok' ? printable(action) : out.style('yellow', printable(action)),
    },
    { title: 'ACTOR', cell: ({ actor }) => named(actor), minWidth: 12 },
    { title: 'TARGET', cell: ({ target }) => (target ? named(target) : NOTHING), minWidth: 12, dropOrder: 3 },
    { title: 'FROM', cell: ({ address }) => printable(address ?? NOTHING), dropOrder: 2 },
    {
      title: 'DATA',
      cell: ({ data }) => (Object.keys(data).length > 0 ? printable(printableJson(data)) : NOTHING),
      minWidth: 10,
      dropOrder: 4,
    },
  ])
  if (lines.next_cursor) terminal.err.write(`There are more than ${lines.items.length}: --all shows them.\n`)
}
