import { open, rename, rm } from 'node:fs/promises'
import { type AuditFilters, auditQuery } from './audit-filters.ts'
import { CliError, EXIT } from './failure.ts'
import { connect, type OperatorOptions } from './operator.ts'
import type { Terminal } from './terminal.ts'
import { printable } from './text.ts'

interface ExportOptions extends OperatorOptions, AuditFilters {
  readonly format?: string
  readonly output?: string
}

/** `beacon audit export`. With --json it is NDJSON, as without. */
export async function exportAudit(terminal: Terminal, options: ExportOptions): Promise<void> {
  const { format = 'ndjson', output } = options
  if (format !== 'ndjson' && format !== 'csv') throw new CliError('--format takes ndjson or csv', EXIT.usage)
  const client = connect(options, terminal)
  const query = await auditQuery(client, options, terminal.clock.now())
  const chunks = client.stream('/api/audit/export', { ...query, format })
  if (output !== undefined) return writeWhole(output, chunks)
  // Characters may lie across chunks.
  const decoder = new TextDecoder()
  for await (const chunk of chunks) terminal.out.write(decoder.decode(chunk, { stream: true }))
  terminal.out.write(decoder.decode())
}

/** The file is there when all of it is: what ended early is not to be taken for the whole log. */
async function writeWhole(path: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  const part = `${path}.part`
  const cannot = (error: unknown) => {
    const { code } = error as NodeJS.ErrnoException
    return new CliError(`cannot write ${printable(path)} (${code})`)
  }
  const file = await open(part, 'w', 0o600).catch((error: unknown) => {
    throw cannot(error)
  })
  try {
    for await (const chunk of chunks) await file.writeFile(chunk)
    await file.sync()
    await file.close()
    await rename(part, path)
  } catch (error) {
    await file.close().catch(() => {})
    await rm(part, { force: true })
    throw error instanceof CliError ? error : cannot(error)
  }
}
