import { z } from 'zod'
import { claimRequestSchema, claimResponseSchema } from '../enrolment.ts'
import { robotFrameSchemas, serverFrameSchemas } from '../frames.ts'
import { MAX_METRICS } from '../limits.ts'
import { MEANINGS } from './meanings.ts'

export type JsonSchema = Readonly<Record<string, unknown>>

/** Everything that robot and server write to each other, by the name of its schema. */
export const MESSAGES = {
  ...robotFrameSchemas,
  ...serverFrameSchemas,
  claim_request: claimRequestSchema,
  claim_response: claimResponseSchema,
} as const
export type MessageName = keyof typeof MESSAGES

const WRAPPERS: ReadonlySet<string> = new Set(['optional', 'default', 'pipe'])

interface Check {
  readonly _zod: { readonly def: { readonly check: string; readonly error?: (issue: object) => unknown } }
}

/** What `refine` demands of a value: JSON Schema cannot say it, so it is said in words. */
function rulesInWords(schema: z.core.$ZodType): string[] {
  const checks = ((schema._zod.def as unknown as { checks?: readonly Check[] }).checks ?? []).filter(
    ({ _zod: { def } }) => def.check === 'custom',
  )
  return checks.map(({ _zod: { def } }) => {
    const message = def.error?.({})
    if (typeof message !== 'string') throw new Error('a rule of a frame has no words')
    return message
  })
}

interface Node {
  description?: string
  maxProperties?: number
  readonly properties?: Readonly<Record<string, Node>>
  readonly items?: Node
  readonly additionalProperties?: Node | boolean
  readonly anyOf?: readonly Node[]
}

/** Adds what a value and all within it mean. */
function explain(node: Node, path: string): void {
  const description = [MEANINGS[path], node.description].filter(Boolean).join(' ')
  if (description) node.description = description
  // The one rule in words that JSON Schema has words for.
  if (path === 'heartbeat.metrics') node.maxProperties = MAX_METRICS
  for (const [name, part] of Object.entries(node.properties ?? {})) explain(part, `${path}.${name}`)
  for (const part of node.anyOf ?? []) explain(part, path)
  if (node.items) explain(node.items, `${path}.[]`)
  if (typeof node.additionalProperties === 'object') explain(node.additionalProperties, `${path}.*`)
}

/** The JSON Schema (2020-12) of a message, with what its fields mean, and the rules that only words can say. */
export function jsonSchemaOf(name: MessageName): JsonSchema {
  const { $schema, ...schema } = z.toJSONSchema(MESSAGES[name], {
    io: 'input',
    override({ zodSchema, jsonSchema }) {
      // What only wraps another schema has taken over what was said of that.
      if (WRAPPERS.has(zodSchema._zod.def.type)) return
      const rules = rulesInWords(zodSchema).map((rule) => `Rule in words: ${rule}.`)
      if (rules.length > 0) jsonSchema.description = rules.join(' ')
    },
  })
  // Copied, for parts may be one object in several places.
  const own: Node = JSON.parse(JSON.stringify(schema))
  explain(own, name)
  return { $schema, title: name, ...own }
}
