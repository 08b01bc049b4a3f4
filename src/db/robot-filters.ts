import { type RawBuilder, sql } from 'kysely'

/** Conditions on robots that several lists know; `table` is what the statement calls the robots. */

/** Labels that all have to be there; a null value asks for the label alone. */
export type WantedLabels = readonly { readonly name: string; readonly value: string | null }[]

export function hasLabels(labels: WantedLabels, table = 'robots'): RawBuilder<boolean> {
  if (labels.length === 0) return sql`true`
  const column = sql.ref(`${table}.labels`)
  const rules = labels.map(({ name, value }) =>
    value === null ? sql`${column} ? ${name}` : sql`${column} @> ${JSON.stringify({ [name]: value })}::jsonb`,
  )
  return sql`${sql.join(rules, sql` AND `)}`
}

/** True where the text is part of the name, or the beginning of the id. */
export function isCalled(text: string): RawBuilder<boolean> {
  const part = `%${text.replace(/[\\%_]/g, '\\$&')}%`
  return sql`(robots.name ILIKE ${part} OR starts_with(robots.id::text, lower(${text})))`
}

/** True for robots that a credential admitted, or whose token came with it. */
export function hangsOn(credentialId: string): RawBuilder<boolean> {
  return sql`(robots.credential_id = ${credentialId} OR robots.token_credential_id = ${credentialId})`
}
