import { z } from 'zod'
import { ERRORS, type ErrorCode } from '../errors.ts'
import { displayName, isStorableText } from '../protocol/text.ts'

/** Gives a schema its name in the OpenAPI document. */
export function component<Schema extends z.ZodType>(id: string, schema: Schema): Schema {
  z.globalRegistry.add(schema, { ...schema.meta(), id })
  return schema
}

/** Ids travel in lower case, as the database writes them. */
export const id = z.guid().toLowerCase()
export const time = z.iso.datetime()
export const name = displayName()

export const byId = z.object({ id })

const MAX_LABELS = 32
const LABEL_NAME = /^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$/

const labelName = z
  .string()
  .regex(LABEL_NAME, 'must be 1 to 63 letters, digits or . _ / -, with a letter or digit at both ends')
const labelValue = z.union(
  [z.literal(''), displayName(256)],
  'must be at most 256 characters, none a control character',
)

/** Free labels: what operators select robots by. */
export const labels = z
  .record(labelName, labelValue)
  .refine((given) => Object.keys(given).length <= MAX_LABELS, `at most ${MAX_LABELS} labels`)

/** `name` or `name=value`. */
export const labelSelector = z
  .string()
  .max(320)
  .transform((text) => {
    const equals = text.indexOf('=')
    return equals < 0
      ? { name: text, value: null }
      : { name: text.slice(0, equals), value: text.slice(equals + 1) }
  })
  .refine(
    ({ name, value }) => LABEL_NAME.test(name) && isStorableText(value ?? ''),
    'must be name or name=value',
  )

/** A query parameter that may be repeated. */
export function repeated<Schema extends z.ZodType>(schema: Schema, max = 50) {
  return z.preprocess((given) => (Array.isArray(given) ? given : [given]), z.array(schema).min(1).max(max))
}

export const limit = (max = 200, preset = 50) =>
  z.coerce.number().int().min(1).max(max).default(preset).describe('How many items a page holds at the most')

export const cursor = z.string().optional().describe('`next_cursor` of the page before')

/** A page of items; `next_cursor` is null on the last one. */
export function listOf<Schema extends z.ZodType>(item: Schema) {
  return z.object({ items: z.array(item), next_cursor: z.string().nullable() })
}

/** Of a POST that needs none: nothing, or an empty object. */
export const noBody = z.strictObject({}).nullable()

/** Takes the header that makes a POST safe to send again. */
export const idempotencyHeaders = z.looseObject({
  'idempotency-key': z
    .string()
    .regex(/^[\x21-\x7e]{1,255}$/, 'must be 1 to 255 visible ASCII characters')
    .optional()
    .describe(
      'The same key with the same request within 24 hours gets the same answer and has no second effect',
    ),
})

/** What every refusal looks like. */
component(
  'Problem',
  z.object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    code: z
      .enum(Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]])
      .describe('Stable; docs/errors.md lists all'),
    detail: z.string().describe('For a person'),
    request_id: z.string(),
    errors: z
      .array(
        z.object({
          pointer: z
            .string()
            .describe(
              'A JSON pointer into the body, `?name` for a query parameter, `header:name` for a header',
            ),
          detail: z.string(),
        }),
      )
      .optional(),
  }),
)
