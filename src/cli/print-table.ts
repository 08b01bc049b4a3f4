import { type Column, renderTable } from './table.ts'
import type { Terminal } from './terminal.ts'

/** A table's lines, as wide as the terminal allows. */
export function tableLines<Row>(
  terminal: Terminal,
  rows: readonly Row[],
  columns: readonly Column<Row>[],
): string[] {
  return renderTable(columns, rows, {
    width: terminal.out.columns,
    titleStyle: (text) => terminal.out.style('bold', text),
  })
}

/** Prints a table, or a sentence when there is nothing to show. */
export function printTable<Row>(
  terminal: Terminal,
  rows: readonly Row[],
  whenEmpty: string,
  columns: readonly Column<Row>[],
): void {
  if (rows.length === 0) terminal.err.write(`${whenEmpty}\n`)
  else terminal.out.write(`${tableLines(terminal, rows, columns).join('\n')}\n`)
}
