/** Looks for secrets in text, whole and in the forms that programs give them by accident. */
import type { TestDatabase } from '../support/postgres.ts'

/** The part of the base64 of any text around the secret that does not depend on what stands before and after it. */
function base64Cores(secret: string): string[] {
  return [0, 1, 2].map((before) => {
    const bytes = Buffer.concat([Buffer.alloc(before), Buffer.from(secret)])
    const whole = bytes.subarray(0, bytes.length - (bytes.length % 3)).toString('base64')
    return whole.slice(before === 0 ? 0 : 4)
  })
}

/** A secret as it is, without its kind and checksum, and as hex, base64, JSON or part of an address. */
function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret)
  const random = /[0-9a-f]{64}/.exec(secret)?.[0]
  const base64 = base64Cores(secret)
  return [
    secret,
    encodeURIComponent(secret),
    JSON.stringify(secret).slice(1, -1),
    bytes.toString('hex'),
    ...base64,
    ...base64.map((text) => text.replaceAll('+', '-').replaceAll('/', '_')),
    ...(random === undefined
      ? []
      : [random, Buffer.from(random, 'hex').toString('base64').slice(0, 40), ...base64Cores(random)]),
  ]
}

export class SecretScan {
  readonly #secrets = new Map<string, readonly string[]>()
  readonly #values = new Map<string, string>()
  /** Everything that was said to anybody, but for the one answer in which a secret is shown. */
  readonly #said: string[] = []

  /** Remembers a secret under a name that may be printed when it turns up. Answers with the secret. */
  remember(name: string, secret: string): string {
    if (secret.length < 8) throw new Error(`${name} is too short to be looked for`)
    this.#secrets.set(name, formsOf(secret))
    this.#values.set(name, secret)
    return secret
  }

  get names(): string[] {
    return [...this.#secrets.keys()]
  }

  get values(): string[] {
    return [...this.#values.values()]
  }

  say(...texts: string[]): void {
    this.#said.push(...texts)
  }

  /** An answer that shows these secrets, as it should; everything else in it counts. */
  sayWithout(text: string, ...secrets: string[]): void {
    let rest = text
    for (const secret of secrets) rest = rest.replaceAll(JSON.stringify(secret).slice(1, -1), '')
    this.#said.push(rest)
  }

  get said(): string {
    return this.#said.join('\n')
  }

  /** Names of the secrets that are in the text in any form. */
  findings(text: string): string[] {
    return [...this.#secrets]
      .filter(([, forms]) => forms.some((form) => text.includes(form)))
      .map(([name]) => name)
  }

  /** Names of the secrets that are anywhere in the database, each with the table it is in. */
  async findingsIn({ pool }: TestDatabase): Promise<{ found: string[]; tables: number; bytes: number }> {
    const { rows: tables } = await pool.query<{ name: string }>(
      `SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.tables
       WHERE table_schema NOT IN ('pg_catalog', 'information_schema')`,
    )
    const found: string[] = []
    let bytes = 0
    for (const { name } of tables) {
      const { rows } = await pool.query<{ row: string }>(`SELECT row_to_json(t)::text AS row FROM ${name} t`)
      const held = rows.map(({ row }) => row).join('\n')
      // As bytes, too: what a bytea holds, if it were text.
      const plain = held.replaceAll(/\\\\x([0-9a-f]+)/g, (_, hex: string) =>
        Buffer.from(hex, 'hex').toString('latin1'),
      )
      bytes += held.length
      for (const secret of new Set([...this.findings(held), ...this.findings(plain)]))
        found.push(`${secret} in ${name}`)
    }
    return { found, tables: tables.length, bytes }
  }
}
