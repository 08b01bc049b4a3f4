import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { Ajv } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { describe, expect, test } from 'vitest'
import { EXAMPLES } from '../../src/protocol/description/examples.ts'
import { describedFiles } from '../../src/protocol/description/files.ts'
import { jsonSchemaOf, MESSAGES, type MessageName } from '../../src/protocol/description/json-schema.ts'
import { MEANINGS } from '../../src/protocol/description/meanings.ts'

const require = createRequire(import.meta.url)
const FOLDER = join(import.meta.dirname, '../../docs/protocol')
const NAMES = Object.keys(MESSAGES) as MessageName[]

// biome-ignore lint/suspicious/noExplicitAny: JSON whose shape the tests themselves assert
type Json = any

function read(path: string): Json {
  return JSON.parse(readFileSync(join(FOLDER, path), 'utf8'))
}

/** Paths of a schema's fields, as MEANINGS has them. */
function pathsOf(schema: Json, path: string): string[] {
  expect(schema.description?.startsWith(MEANINGS[path]), `${path}: ${schema.description}`).toBe(true)
  return [
    path,
    ...Object.entries(schema.properties ?? {}).flatMap(([name, part]) => pathsOf(part, `${path}.${name}`)),
    ...(schema.items ? pathsOf(schema.items, `${path}.[]`) : []),
    ...(typeof schema.additionalProperties === 'object'
      ? pathsOf(schema.additionalProperties, `${path}.*`)
      : []),
    ...(schema.anyOf ?? []).flatMap((part: Json) => pathsOf(part, path)),
  ]
}

function compile(name: MessageName) {
  const ajv = new Ajv2020({ strict: true, allErrors: true })
  addFormats.default(ajv)
  return ajv.compile(jsonSchemaOf(name))
}

// After a change of the frames: npm run protocol-docs, and read the difference.
describe('the files in docs/protocol', () => {
  test.each([...describedFiles()])('%s is current', (path, content) => {
    expect(read(path)).toEqual(JSON.parse(JSON.stringify(content)))
  })

  test('are all that there is, besides the vectors', () => {
    const there = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' })
    const files = there.filter((path) => path.endsWith('.json') && !path.startsWith('vectors'))
    expect(files.sort()).toEqual([...describedFiles().keys()].sort())
  })

  test('say of every message and field what it means, and of none that is not there', () => {
    const paths = new Set(NAMES.flatMap((name) => pathsOf(jsonSchemaOf(name), name)))
    expect(Object.keys(MEANINGS).sort()).toEqual([...paths].sort())
  })

  test('say in words what JSON Schema cannot', () => {
    const { properties } = jsonSchemaOf('heartbeat') as Json
    expect(properties.at.description).toContain('Rule in words: must lie between 1970 and 9999.')
    expect(properties.at.description).toContain('less than 16 hours from UTC')
    expect(properties.network.description).toContain('at most five levels deep')
    expect(properties.mode.description).toContain('must not hold NUL')
    expect(properties.metrics).toMatchObject({ maxProperties: 64 })
  })
})

describe.each(NAMES)('the schema of %s', (name) => {
  test('takes its examples, as the server does', () => {
    const validate = compile(name)
    expect(EXAMPLES[name].length).toBeGreaterThan(0)
    for (const example of EXAMPLES[name]) {
      expect(validate(example), JSON.stringify(validate.errors)).toBe(true)
      expect(MESSAGES[name].safeParse(example).success).toBe(true)
    }
  })

  test('takes fields of a newer protocol exactly where the server does', () => {
    const newer = { ...EXAMPLES[name][0], something_newer: 1 }
    expect(compile(name)(newer)).toBe(MESSAGES[name].safeParse(newer).success)
  })
})

test('the JSON Schemas judge the test vectors as the server does, but for rules in words', () => {
  const validators = new Map(NAMES.map((name) => [name as string, compile(name)]))
  const { frames } = read('vectors/frames-from-robot.json')
  let judged = 0
  for (const { name, text, result, beyond_json_schema } of frames) {
    if (typeof text !== 'string' || !['accepted', 'invalid_frame'].includes(result)) continue
    const frame = JSON.parse(text)
    const validate = validators.get(frame?.type)
    if (!validate) continue
    judged += 1
    const expected = result === 'accepted' || beyond_json_schema === true
    expect(validate(frame), `${name}: ${JSON.stringify(validate.errors)}`).toBe(expected)
  }
  expect(judged).toBeGreaterThan(60)
})

describe('the AsyncAPI document', () => {
  const document = read('asyncapi.json')

  function metaSchema() {
    const ajv = new Ajv({ strict: false, allErrors: true, meta: false, validateSchema: false })
    addFormats.default(ajv)
    return ajv.compile(require('@asyncapi/specs/schemas/3.0.0.json'))
  }

  test('is valid AsyncAPI 3.0', () => {
    const validate = metaSchema()
    expect(validate(document), JSON.stringify(validate.errors?.slice(0, 3))).toBe(true)
    for (const broken of [
      { ...document, asyncapi: '2.6.0' },
      { ...document, channels: { session: { address: 1 } } },
      { ...document, operations: { claim: { action: 'shout', channel: { $ref: '#/channels/enrolment' } } } },
    ])
      expect(validate(broken)).toBe(false)
  })

  test('has references that all lead somewhere', () => {
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)].map(
      (found) => found[1]!,
    )
    expect(references.length).toBeGreaterThan(50)
    for (const reference of references) {
      const target = reference.split('/').reduce((part: Json, step) => part?.[step], document)
      expect(target, reference).toBeDefined()
    }
  })

  test('holds every message, each sent or received by an operation of its own', () => {
    expect(Object.keys(document.components.messages).sort()).toEqual([...NAMES].sort())
    const used = Object.values<Json>(document.operations).flatMap((operation) =>
      [...operation.messages, ...(operation.reply?.messages ?? [])].map(({ $ref }) => $ref.split('/').at(-1)),
    )
    expect([...new Set(used)].sort()).toEqual([...NAMES].sort())
  })
})
