import { stripVTControlCharacters } from 'node:util'
import Table from 'cli-table3'

export interface Column<Row> {
  readonly title: string
  /** What the cell says, safe to print; it may hold colours. */
  readonly cell: (row: Row) => string
  readonly align?: 'right'
  /** Narrowest width that still says something; a column without one is never cut. */
  readonly minWidth?: number
  /** Where there is no room at all, the column with the highest number goes first; one without a number stays. */
  readonly dropOrder?: number
  /** Leaves the column out where no row has anything to say in it. */
  readonly hiddenWhenEmpty?: true
}

/** What a cell says that has nothing to say. */
export const NOTHING = '-'

interface Measured<Row> {
  readonly column: Column<Row>
  readonly natural: number
  width: number
}

const GAP = 2
const EDGES =
  'top top-mid top-left top-right bottom bottom-mid bottom-left bottom-right left left-mid mid mid-mid right right-mid middle'
const NO_LINES = Object.fromEntries(EDGES.split(' ').map((name) => [name, '']))

const segments = new Intl.Segmenter()
const WIDE =
  /\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]/u

/** Columns of a terminal that the text takes. */
export function widthOf(text: string): number {
  let width = 0
  for (const { segment } of segments.segment(stripVTControlCharacters(text)))
    width += WIDE.test(segment) ? 2 : 1
  return width
}

const totalOf = <Row>(columns: readonly Measured<Row>[]) =>
  columns.reduce((total, column) => total + column.width + GAP, -GAP)

function narrowestOf<Row>({ column, natural }: Measured<Row>): number {
  return Math.min(natural, column.minWidth ?? natural)
}

/** Takes columns away until the rest fits when cut, then cuts the widest until all fit. */
function fitted<Row>(columns: Measured<Row>[], room: number): Measured<Row>[] {
  const least = (kept: readonly Measured<Row>[]) =>
    kept.reduce((total, column) => total + narrowestOf(column) + GAP, -GAP)
  let kept = columns
  while (least(kept) > room) {
    const last = kept
      .filter(({ column }) => column.dropOrder !== undefined)
      .sort((a, b) => b.column.dropOrder! - a.column.dropOrder!)[0]
    if (!last) break
    kept = kept.filter((column) => column !== last)
  }
  while (totalOf(kept) > room) {
    const widest = kept
      .filter((column) => column.width > narrowestOf(column))
      .sort((a, b) => b.width - a.width)[0]
    if (!widest) break
    widest.width -= 1
  }
  return kept
}

export interface TableOptions {
  /** Columns of the terminal; undefined: as wide as it comes. */
  readonly width: number | undefined
  readonly titleStyle: (text: string) => string
}

/** Rows under a line of titles, without borders, one line each. */
export function renderTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  options: TableOptions,
): string[] {
  const spoken = columns.filter(
    (column) => !column.hiddenWhenEmpty || rows.some((row) => column.cell(row) !== NOTHING),
  )
  const measured = spoken.map((column): Measured<Row> => {
    const natural = Math.max(widthOf(column.title), ...rows.map((row) => widthOf(column.cell(row))))
    return { column, natural, width: natural }
  })
  const kept = options.width === undefined ? measured : fitted(measured, options.width)
  const table = new Table({
    head: kept.map(({ column }) => options.titleStyle(column.title)),
    chars: NO_LINES,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': GAP },
    colWidths: kept.map(({ width }) => width + GAP),
    colAligns: kept.map(({ column }) => column.align ?? 'left'),
  })
  table.push(...rows.map((row) => kept.map(({ column }) => column.cell(row))))
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
}
