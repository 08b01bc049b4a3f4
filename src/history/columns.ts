import { type ByteReader, type ByteWriter, DamagedError } from './bytes.ts'
import { readIntegers, readNumbers, writeIntegers, writeNumbers } from './numbers.ts'

/** A plain JSON value, as JSON.parse makes it. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject
export interface JsonObject {
  readonly [name: string]: Json
}

/** The values that JSON objects have at one path, and in which of them. */
export interface Column {
  readonly path: readonly string[]
  /** Numbers, or everything else as JSON text. */
  readonly kind: 'number' | 'json'
  /** Which of the objects have a value here, in order. */
  readonly rows: readonly number[]
}
export interface NumberColumn extends Column {
  readonly kind: 'number'
  readonly values: readonly number[]
}
export interface JsonColumn extends Column {
  readonly kind: 'json'
  readonly values: readonly string[]
}
export type FilledColumn = NumberColumn | JsonColumn

/** What takes more stays as it is: as one value, at the root. Nobody makes a table of a million columns of ours. */
const MAX_COLUMNS = 256
const MAX_DEPTH = 8
const NUMBER = 0
const JSON_TEXT = 1

interface Node {
  readonly path: readonly string[]
  readonly children: Map<string, Node>
  readonly numbers: { rows: number[]; values: number[] }
  readonly texts: { rows: number[]; values: string[] }
}

function newNode(path: readonly string[]): Node {
  return {
    path,
    children: new Map(),
    numbers: { rows: [], values: [] },
    texts: { rows: [], values: [] },
  }
}

/** Takes JSON objects apart into columns. */
export function toColumns(objects: readonly JsonObject[]): FilledColumn[] {
  const root = newNode([])
  const nodes = [root]
  const found: { node: Node; value: Json }[] = []

  /** False when there are too many columns. */
  function collect(node: Node, object: JsonObject): boolean {
    for (const name of Object.keys(object)) {
      const value = object[name]!
      let child = node.children.get(name)
      if (!child) {
        if (nodes.length >= MAX_COLUMNS) return false
        child = newNode([...node.path, name])
        node.children.set(name, child)
        nodes.push(child)
      }
      if (isFilledObject(value) && child.path.length < MAX_DEPTH) {
        if (!collect(child, value)) return false
      } else found.push({ node: child, value })
    }
    return true
  }

  for (const [row, object] of objects.entries()) {
    found.length = 0
    if (!isFilledObject(object) || !collect(root, object)) {
      found.length = 0
      found.push({ node: root, value: object })
    }
    for (const { node, value } of found) {
      if (typeof value === 'number') {
        node.numbers.rows.push(row)
        node.numbers.values.push(value)
      } else {
        node.texts.rows.push(row)
        node.texts.values.push(JSON.stringify(value))
      }
    }
  }
  return nodes.flatMap(({ path, numbers, texts }): FilledColumn[] => [
    ...(numbers.rows.length > 0 ? [{ path, kind: 'number' as const, ...numbers }] : []),
    ...(texts.rows.length > 0 ? [{ path, kind: 'json' as const, ...texts }] : []),
  ])
}

function isFilledObject(value: Json): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length > 0
}

/** Puts objects together again, as many as there were. */
export function fromColumns(columns: Iterable<FilledColumn>, count: number): JsonObject[] {
  const objects: Json[] = Array.from({ length: count }, () => ({}))
  for (const column of columns) {
    const { path, rows } = column
    const known = new Map<string, Json>()
    for (const [index, row] of rows.entries()) {
      let value: Json
      if (column.kind === 'number') value = column.values[index]!
      else {
        const text = column.values[index]!
        // Objects and arrays of their own for each; the same word for all.
        value = known.get(text) ?? (JSON.parse(text) as Json)
        if (typeof value !== 'object') known.set(text, value)
      }
      if (path.length === 0) objects[row] = value
      else put(objects[row] as Record<string, Json>, path, value)
    }
  }
  return objects as JsonObject[]
}

function put(object: Record<string, Json>, path: readonly string[], value: Json): void {
  let at = object
  for (let depth = 0; depth < path.length - 1; depth++) {
    const name = path[depth]!
    if (!Object.hasOwn(at, name)) define(at, name, {})
    at = at[name] as Record<string, Json>
  }
  define(at, path.at(-1)!, value)
}

/** A member of any name: to some, such as `__proto__`, assigning does something else. */
function define(object: Record<string, Json>, name: string, value: Json): void {
  if (name !== '__proto__') object[name] = value
  else Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true })
}

export function writeColumns(writer: ByteWriter, columns: readonly FilledColumn[], count: number): void {
  writer.text(JSON.stringify(columns.map((column) => column.path)))
  for (const column of columns)
    writer.block((block) => {
      block.byte(column.kind === 'number' ? NUMBER : JSON_TEXT)
      writeRows(block, column.rows, count)
      if (column.kind === 'number') writeNumbers(block, column.values)
      else writeTexts(block, column.values)
    })
}

/** The columns as they are asked for: those that `wants` does not want cost nothing. */
export function* readColumns(
  reader: ByteReader,
  count: number,
  wants: (path: readonly string[]) => boolean = () => true,
): Generator<FilledColumn> {
  for (const path of JSON.parse(reader.text()) as string[][]) {
    const block = reader.block()
    if (!wants(path)) continue
    const kind = block.byte()
    const rows = readRows(block, count)
    if (kind === NUMBER) yield { path, kind: 'number', rows, values: readNumbers(block, rows.length) }
    else if (kind === JSON_TEXT) yield { path, kind: 'json', rows, values: readTexts(block, rows.length) }
    else throw new DamagedError('an unknown kind of column')
  }
}

/** Some of the numbers from 0 up to `count`: how many follow each other, and how many are left out before. */
export function writeRows(writer: ByteWriter, rows: readonly number[], count: number): void {
  writer.varint(count - rows.length)
  if (rows.length === count) return
  let next = 0
  for (let index = 0; index < rows.length; ) {
    writer.varint(rows[index]! - next)
    let end = index + 1
    while (end < rows.length && rows[end] === rows[end - 1]! + 1) end++
    writer.varint(end - index)
    next = rows[end - 1]! + 1
    index = end
  }
}

export function readRows(reader: ByteReader, count: number): number[] {
  const present = count - reader.varint()
  if (present < 0) throw new DamagedError('more rows than there are')
  const rows = new Array<number>(present)
  if (present === count) {
    for (let row = 0; row < count; row++) rows[row] = row
    return rows
  }
  let row = 0
  for (let index = 0; index < present; ) {
    row += reader.varint()
    const run = reader.varint()
    if (run === 0 || index + run > present || row + run > count)
      throw new DamagedError('more rows than there are')
    for (let left = run; left > 0; left--) rows[index++] = row++
  }
  return rows
}

/** Texts of which many are the same. */
function writeTexts(writer: ByteWriter, values: readonly string[]): void {
  const places = new Map<string, number>()
  const numbers = values.map((text) => {
    const known = places.get(text)
    if (known !== undefined) return known
    places.set(text, places.size)
    return places.size - 1
  })
  writer.varint(places.size)
  for (const text of places.keys()) writer.text(text)
  writeIntegers(writer, numbers)
}

function readTexts(reader: ByteReader, count: number): string[] {
  const size = reader.varint()
  const texts: string[] = []
  for (let index = 0; index < size; index++) texts.push(reader.text())
  return readIntegers(reader, count).map((number) => {
    const text = texts[number]
    if (text === undefined) throw new DamagedError('a text that is not there')
    return text
  })
}
