import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { isCheckedToken } from '../protocol/tokens.ts'
import { type Client, createClient } from './client.ts'
import { CliError, EXIT } from './failure.ts'
import { findLogin, readLogins } from './login-file.ts'
import type { Terminal } from './terminal.ts'
import { printable, printableJson } from './text.ts'

const DEFAULT_URL = 'http://127.0.0.1:8080'

/** What every operator command takes. */
export interface OperatorOptions {
  readonly url?: string
  readonly apiKeyFile?: string
  readonly json?: boolean
}

/** Adds --url, --api-key-file and --json. The key itself is no option: command lines are visible to everybody. */
export function withOperatorOptions(command: Command): Command {
  return command
    .option('--url <address>', `address of the server (BEACON_URL; default ${DEFAULT_URL})`)
    .option(
      '--api-key-file <file>',
      'file that holds the API key (or BEACON_API_KEY_FILE, or BEACON_API_KEY)',
    )
    .option('--json', 'answer with JSON, as the server does')
}

/** For options that may be repeated. */
export const collected = (value: string, all: readonly string[] = []) => [...all, value]

/** The server that the options, the environment or the last `beacon login` name. */
export function serverUrl(options: OperatorOptions, terminal: Terminal): string {
  const given = options.url || terminal.env.BEACON_URL
  const hasKey = options.apiKeyFile || terminal.env.BEACON_API_KEY || terminal.env.BEACON_API_KEY_FILE
  const text = given || (hasKey ? undefined : readLogins(terminal).current) || DEFAULT_URL
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol))
    throw new CliError(`"${printable(text)}" is not an address like ${DEFAULT_URL}`, EXIT.usage)
  if (url.username || url.password || url.search || url.hash)
    throw new CliError('the address of the server holds no user, query or fragment', EXIT.usage)
  return url.href.replace(/\/+$/, '')
}

function keyIn(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    throw new CliError(
      `cannot read ${printable(file)} (${(error as NodeJS.ErrnoException).code})`,
      EXIT.usage,
    )
  }
}

function apiKey(options: OperatorOptions, terminal: Terminal, url: string): string {
  const file = options.apiKeyFile || (terminal.env.BEACON_API_KEY ? '' : terminal.env.BEACON_API_KEY_FILE)
  const key = file ? keyIn(file) : terminal.env.BEACON_API_KEY?.trim() || findLogin(terminal, url)?.token
  if (!key)
    throw new CliError(
      'an API key is needed: sign in with "beacon login", set BEACON_API_KEY or name a file with --api-key-file',
      EXIT.usage,
    )
  if (!/^[\x21-\x7e]+$/.test(key))
    throw new CliError('the API key holds characters that no key has', EXIT.usage)
  if (/^(rf_(enroll|robot|setup)|apt)_/.test(key))
    throw new CliError(
      'that is a robot’s credential; operators use a personal token, rf_pat_…, or a fleet’s, rf_fleet_…',
      EXIT.credential,
    )
  const kind = key.startsWith('rf_pat_') ? 'personal' : key.startsWith('rf_fleet_') ? 'fleet' : undefined
  if (kind && !isCheckedToken(kind, key))
    throw new CliError('the API key is mistyped or cut short: its checksum does not hold', EXIT.credential)
  return key
}

/** The client for the server that the options and the environment name. */
export function connect(options: OperatorOptions, terminal: Terminal): Client {
  const url = serverUrl(options, terminal)
  return createClient({ url, apiKey: apiKey(options, terminal, url) })
}

export function printJson(terminal: Terminal, value: unknown): void {
  terminal.out.write(`${printableJson(value, 2)}\n`)
}

export function printLines(terminal: Terminal, lines: readonly string[]): void {
  terminal.out.write(`${lines.join('\n')}\n`)
}

/** Asks before something that cannot be taken back; where nobody can be asked, `--yes` has to say it. */
export async function confirm(terminal: Terminal, yes: boolean | undefined, question: string): Promise<void> {
  if (yes) return
  const answer = await terminal.ask(`${question} [y/N] `)
  if (answer === undefined) throw new CliError(`${question} Nobody can be asked here: say --yes`, EXIT.usage)
  if (!/^y(es)?$/i.test(answer.trim())) throw new CliError('nothing was changed')
}
