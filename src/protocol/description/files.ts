import { asyncApiDocument } from './asyncapi.ts'
import { jsonSchemaOf, MESSAGES, type MessageName } from './json-schema.ts'

/** Every file that is made of the schemas, by its path below docs/protocol. */
export function describedFiles(): ReadonlyMap<string, object> {
  const names = Object.keys(MESSAGES) as MessageName[]
  return new Map<string, object>([
    ['asyncapi.json', asyncApiDocument()],
    ...names.map((name) => [`schemas/${name}.json`, jsonSchemaOf(name)] as const),
  ])
}
