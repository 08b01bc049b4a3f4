import { CliError, EXIT } from './failure.ts'
import { confirm, printJson, printLines } from './operator.ts'
import type { Terminal } from './terminal.ts'
import { printable, when } from './text.ts'

interface RecoverOptions {
  readonly email: string
  readonly name?: string
  readonly yes?: boolean
  readonly json?: boolean
}

/** Makes an owner in the database itself, for when nobody can ask the server for one. */
export async function recoverOwner(terminal: Terminal, options: RecoverOptions): Promise<void> {
  const email = options.email.trim().normalize('NFC').toLowerCase()
  if (!/^[^\s@]{1,64}@[^\s@]+$/.test(email) || email.length > 254)
    throw new CliError(`"${printable(options.email)}" is not an email address`, EXIT.usage)
  await confirm(
    terminal,
    options.yes,
    `Make ${printable(email)} an owner of everything, without a second factor and signed out everywhere?`,
  )
  const { DirectError, recoverOwner: recover } = await import('../access/recover-owner.ts')
  const name = options.name ?? 'recovered owner'
  const made = await recover(terminal.env, { email, name }).catch((error: unknown) => {
    if (error instanceof DirectError)
      throw new CliError(error.message, error.away ? EXIT.unreachable : EXIT.error)
    throw error
  })
  const until = made.expiresAt.toISOString()
  if (options.json)
    return printJson(terminal, {
      user_id: made.userId,
      created: made.isNew,
      token: made.token,
      invitation_token: made.invitationToken,
      expires_at: until,
    })
  printLines(terminal, [
    `${printable(email)} is an owner. Both work until ${when(until)} and are shown only now:`,
    '',
    `  invitation  ${made.invitationToken}`,
    `  API key     ${made.token}`,
    '',
    'Choose a password with: beacon login --accept-invitation',
  ])
}
