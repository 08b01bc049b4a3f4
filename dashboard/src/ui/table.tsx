import { type ComponentChildren, Fragment } from 'preact'
import { sortAfter } from './sort-after.ts'

export interface Column<Row> {
  readonly name: string
  /** What the server sorts by; without it one cannot sort by this column. */
  readonly sort?: string
  readonly show: (row: Row) => ComponentChildren
  /** The last one, with what can be done: its head is for screen readers alone. */
  readonly isActions?: true
}

const ARROWS = { ascending: ' ↑', descending: ' ↓', none: '' } as const

function sorting(sort: string | undefined, column: string): keyof typeof ARROWS {
  if (sort === column) return 'ascending'
  return sort === `-${column}` ? 'descending' : 'none'
}

/** Rows of a list that is not long; in a narrow window each row is a card of its own. */
export function Table<Row>({
  label,
  columns,
  rows,
  keyOf,
  sort,
  onSort,
  below,
}: {
  label: string
  columns: readonly Column<Row>[]
  rows: readonly Row[]
  keyOf: (row: Row) => string
  sort?: string
  onSort?: (sort: string) => void
  /** What stands under a row, across it. */
  below?: (row: Row) => ComponentChildren
}) {
  return (
    <div class="table-wrap">
      <table class="table cards" aria-label={label}>
        <thead>
          <tr>
            {columns.map((column) => (
              <th
                key={column.name}
                scope="col"
                aria-sort={column.sort && onSort ? sorting(sort, column.sort) : undefined}
              >
                {column.sort && onSort ? (
                  <button type="button" onClick={() => onSort(sortAfter(sort ?? '', column.sort!))}>
                    {column.name}
                    <span aria-hidden="true">{ARROWS[sorting(sort, column.sort)]}</span>
                  </button>
                ) : column.isActions ? (
                  <span class="visually-hidden">{column.name}</span>
                ) : (
                  column.name
                )}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => {
            const under = below?.(row)
            return (
              <Fragment key={keyOf(row)}>
                <tr>
                  {columns.map((column) => (
                    <td
                      key={column.name}
                      class={column.isActions ? 'actions' : undefined}
                      data-name={column.isActions ? undefined : column.name}
                    >
                      {column.show(row)}
                    </td>
                  ))}
                </tr>
                {under && (
                  <tr class="below">
                    <td colSpan={columns.length}>{under}</td>
                  </tr>
                )}
              </Fragment>
            )
          })}
        </tbody>
      </table>
    </div>
  )
}
