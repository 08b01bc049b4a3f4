import { describe, expect, test } from 'vitest'
import { type Column, renderTable, widthOf } from '../../src/cli/table.ts'

interface Row {
  readonly name: string
  readonly state: string
  readonly load: string
}

const columns: Column<Row>[] = [
  { title: 'NAME', cell: (row) => row.name, minWidth: 6 },
  { title: 'STATE', cell: (row) => row.state },
  { title: 'LOAD', cell: (row) => row.load, align: 'right', dropOrder: 1 },
]
const rows: Row[] = [
  { name: 'warehouse-bot-01', state: 'online', load: '3 %' },
  { name: '東京ロボット', state: 'offline', load: '100 %' },
]

function render(width: number | undefined): string[] {
  return renderTable(columns, rows, { width, titleStyle: (text) => text })
}

describe('a table', () => {
  test('is as wide as it comes where there is no terminal', () => {
    expect(render(undefined)).toEqual([
      'NAME              STATE     LOAD',
      'warehouse-bot-01  online     3 %',
      '東京ロボット      offline  100 %',
    ])
  })

  test.each([80, 32, 31, 28, 24, 20, 15])('keeps within %i columns', (width) => {
    const lines = render(width)
    expect(lines).toHaveLength(3)
    for (const line of lines) expect(widthOf(line)).toBeLessThanOrEqual(width)
  })

  test('cuts before it drops, and drops the least important', () => {
    expect(render(28)[0]).toContain('LOAD')
    expect(render(28)[1]).toContain('…')
    expect(render(15)[0]).toBe('NAME    STATE')
  })

  test('without rows is its titles', () => {
    expect(renderTable(columns, [], { width: 80, titleStyle: (text) => text })).toEqual(['NAME  STATE  LOAD'])
  })
})
