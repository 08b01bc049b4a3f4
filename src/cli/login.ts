import { type Client, CookieJar, createClient } from './client.ts'
import { CliError, EXIT } from './failure.ts'
import { findLogin, type Login, loginFile, writeLogin } from './login-file.ts'
import { confirm, connect, type OperatorOptions, printJson, printLines, serverUrl } from './operator.ts'
import type { Terminal } from './terminal.ts'
import { printable, when } from './text.ts'
import { expiryOf } from './token-times.ts'

interface Who {
  readonly kind: string
  readonly user: { readonly id: string; readonly name: string; readonly email: string | null }
  readonly roles: readonly { role: string; site_id: string | null; fleet_id: string | null }[]
  readonly scopes: readonly string[] | null
  readonly second_factor: { enabled: boolean; required: boolean; backup_codes_left: number }
  readonly must: 'set_up_second_factor' | null
  readonly expires_at: string | null
}

interface Step {
  readonly signed_in: boolean
}

interface LoginOptions extends Omit<OperatorOptions, 'apiKeyFile'> {
  readonly email?: string
  readonly tokenName?: string
  readonly expiresIn?: string
  readonly scope?: readonly string[]
  readonly acceptInvitation?: boolean
}

const DEFAULT_EXPIRY = '90d'
const TRIES = 3

async function asked(terminal: Terminal, question: string, secret = false): Promise<string> {
  const answer = await (secret ? terminal.askSecret(question) : terminal.ask(question))
  if (answer === undefined)
    throw new CliError(
      'there was no answer: sign in at a terminal; programs use a token: beacon tokens create',
      EXIT.usage,
    )
  return secret ? answer : answer.trim()
}

/** Asks until it is right, a few times; only what the server refuses is asked again. */
async function tried<Answer>(terminal: Terminal, attempt: () => Promise<Answer>): Promise<Answer> {
  for (let left = TRIES - 1; ; left--) {
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof CliError) || error.exitCode !== EXIT.credential || left === 0) throw error
      terminal.err.write(`${printable(error.message)}\n`)
    }
  }
}

/** Signs in, makes a token and keeps it for the other commands. */
export async function login(terminal: Terminal, options: LoginOptions): Promise<void> {
  const expiry = expiryOf(options.expiresIn ?? DEFAULT_EXPIRY)
  const url = serverUrl(options, terminal)
  if (url.startsWith('http:') && !/^http:\/\/(localhost|127\.[\d.]+|\[::1\])(:|$|\/)/.test(url))
    terminal.err.write(`${printable(url)} is not encrypted: whoever is on the way can read your password.\n`)
  const client = createClient({ url, apiKey: new CookieJar() })
  terminal.err.write(`Signing in to ${printable(url)}\n`)
  const invited = options.acceptInvitation ? await acceptInvitation(terminal, client) : undefined
  const email = options.email ?? invited?.email ?? (await asked(terminal, 'Email: '))
  const step = await tried(terminal, async () => {
    const password = invited?.password ?? (await asked(terminal, 'Password: ', true))
    return client.post<Step>('/api/sign-in', { email, password })
  })
  try {
    if (!step.signed_in) await secondFactor(terminal, client)
    let who = await client.get<Who>('/api/session')
    if (who.must === 'set_up_second_factor') {
      await setUpSecondFactor(terminal, client)
      who = await client.get<Who>('/api/session')
    }
    const made = await client.post<{ id: string; token: string | null; expires_at: string | null }>(
      '/api/tokens',
      {
        name: options.tokenName ?? 'beacon login',
        ...(options.scope ? { scopes: options.scope } : {}),
        ...expiry,
      },
    )
    if (made.token === null)
      throw new CliError(`the token was lost on its way; beacon tokens revoke ${made.id}`)
    const before = findLogin(terminal, url)
    writeLogin(terminal, url, { token: made.token, token_id: made.id, email })
    // The one that it takes the place of is of no use to anybody any more.
    if (before) await revoke(url, before).catch(() => {})
    const until = made.expires_at ? `until ${when(made.expires_at)}` : 'until you sign out'
    if (options.json)
      return printJson(terminal, { url, user: who.user, token_id: made.id, expires_at: made.expires_at })
    printLines(terminal, [
      `signed in as ${printable(who.user.name)} ${until}; the token is in ${printable(loginFile(terminal))}`,
    ])
  } finally {
    // Only the token stays: the session was there to make it.
    await client.post('/api/sign-out').catch(() => {})
  }
}

async function secondFactor(terminal: Terminal, client: Client): Promise<void> {
  await tried(terminal, async () => {
    const typed = await asked(terminal, 'Code of your second factor, or a backup code: ')
    const proof = /^\d{6}$/.test(typed.replaceAll(' ', ''))
      ? { code: typed.replaceAll(' ', '') }
      : { backup_code: typed }
    return client.post<Step>('/api/sign-in/second-factor', proof)
  })
}

async function setUpSecondFactor(terminal: Terminal, client: Client): Promise<void> {
  const { secret, otpauth_uri } = await client.post<{ secret: string; otpauth_uri: string }>(
    '/api/session/second-factor',
  )
  terminal.err.write(
    'Everybody has to have a second factor here. Add this to your authenticator:\n\n' +
      `  ${printable(secret)}\n  ${printable(otpauth_uri)}\n\n`,
  )
  const { backup_codes } = await tried(terminal, async () =>
    client.post<{ backup_codes: string[] }>('/api/session/second-factor/confirm', {
      code: (await asked(terminal, 'Code that it shows: ')).replaceAll(' ', ''),
    }),
  )
  terminal.err.write(
    `Backup codes, each good once, shown only now:\n\n${backup_codes.map((code) => `  ${printable(code)}`).join('\n')}\n\n`,
  )
}

async function acceptInvitation(
  terminal: Terminal,
  client: Client,
): Promise<{ email: string | undefined; password: string }> {
  const given = (await asked(terminal, 'Invitation (its address, or the part behind the #): ', true)).trim()
  const token = given.slice(given.indexOf('#') + 1)
  for (let left = TRIES - 1; ; left--) {
    const password = await asked(terminal, 'New password (12 characters or more): ', true)
    try {
      if ((await asked(terminal, 'The same again: ', true)) !== password)
        throw new CliError('these were not the same')
      const { user } = await client.post<{ user: Who['user'] }>('/api/invitations/accept', {
        token,
        password,
      })
      return { email: user.email ?? undefined, password }
    } catch (error) {
      if (!(error instanceof CliError) || error.exitCode !== EXIT.error || left === 0) throw error
      terminal.err.write(`${printable(error.message)}\n`)
    }
  }
}

async function revoke(url: string, { token }: Login): Promise<void> {
  await createClient({ url, apiKey: token }).post('/api/tokens/self/revoke')
}

/** Revokes the token that `beacon login` made, and forgets it. */
export async function logout(terminal: Terminal, options: OperatorOptions): Promise<void> {
  const url = serverUrl(options, terminal)
  const kept = findLogin(terminal, url)
  if (!kept) throw new CliError(`nobody is signed in to ${printable(url)} from here`)
  try {
    await revoke(url, kept)
  } catch (error) {
    // It is of no use any more, and that is all that was wanted.
    if (
      !(error instanceof CliError) ||
      !/\((invalid_token|token_revoked|token_expired)\b/.test(error.message)
    ) {
      await confirm(
        terminal,
        false,
        `The token could not be revoked (${(error as Error).message}). Forget it all the same?`,
      )
    }
  }
  writeLogin(terminal, url, undefined)
  if (options.json) return printJson(terminal, { url, signed_in: false })
  printLines(terminal, [`signed out of ${printable(url)}`])
}

/** Says whom the server takes the caller for. */
export async function whoami(terminal: Terminal, options: OperatorOptions): Promise<void> {
  const client = connect(options, terminal)
  const who = await client.get<Who>('/api/session')
  if (options.json) return printJson(terminal, who)
  const roles = who.roles.map(({ role, site_id, fleet_id }) =>
    fleet_id ? `${role} of the fleet ${fleet_id}` : site_id ? `${role} of the site ${site_id}` : role,
  )
  const email = who.user.email === null ? '' : ` <${printable(who.user.email)}>`
  const { enabled, required, backup_codes_left } = who.second_factor
  printLines(terminal, [
    `${printable(who.user.name)}${email} at ${printable(client.url)}`,
    `roles: ${printable(roles.join(', ') || 'none')}`,
    ...(who.scopes ? [`this token may only: ${printable(who.scopes.join(', ') || 'nothing')}`] : []),
    `second factor: ${enabled ? `set up, ${backup_codes_left} backup codes left` : required ? 'MISSING, and required here: beacon login' : 'not set up'}`,
    ...(who.expires_at ? [`until ${when(who.expires_at)}`] : []),
  ])
}
