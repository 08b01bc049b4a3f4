import {
  chmodSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { CliError } from './failure.ts'
import type { Terminal } from './terminal.ts'
import { printable } from './text.ts'

const loginSchema = z.object({ token: z.string(), token_id: z.string(), email: z.string() })
const loginsSchema = z.object({
  /** The server of the last login. */
  current: z.string().optional(),
  /** A token is sent to no server but its own. */
  servers: z.record(z.string(), loginSchema).default({}),
})
export type Login = z.infer<typeof loginSchema>
type Logins = z.infer<typeof loginsSchema>

/** Where `beacon login` keeps its tokens. */
export function loginFile({ env }: Pick<Terminal, 'env'>): string {
  const config = env.XDG_CONFIG_HOME || join(env.HOME || homedir(), '.config')
  return join(config, 'roboflare', 'logins.json')
}

/** All that `beacon login` has kept; a file that others can read is not trusted to be secret. */
export function readLogins(terminal: Pick<Terminal, 'env'>): Logins {
  const file = loginFile(terminal)
  let text: string
  try {
    if (process.platform !== 'win32' && (statSync(file).mode & 0o077) !== 0)
      throw new CliError(`others can read ${printable(file)}: chmod 600 it, and revoke the tokens in it`)
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (error instanceof CliError) throw error
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return { servers: {} }
    throw new CliError(`cannot read ${printable(file)} (${code})`)
  }
  try {
    return loginsSchema.parse(JSON.parse(text))
  } catch {
    throw new CliError(`${printable(file)} is not what "beacon login" writes: remove it and sign in again`)
  }
}

export function findLogin(terminal: Pick<Terminal, 'env'>, url: string): Login | undefined {
  const { servers } = readLogins(terminal)
  return Object.hasOwn(servers, url) ? servers[url] : undefined
}

/** Keeps a token for a server, or forgets it; the file is readable by its owner alone, and written whole or not at all. */
export function writeLogin(terminal: Pick<Terminal, 'env'>, url: string, login: Login | undefined): void {
  const { current, servers } = readLogins(terminal)
  const { [url]: _before, ...others } = servers
  const next: Logins = login
    ? { current: url, servers: { ...others, [url]: login } }
    : { ...(current === undefined || current === url ? {} : { current }), servers: others }
  const file = loginFile(terminal)
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const temporary = `${file}.${process.pid}`
  const descriptor = openSync(temporary, 'w', 0o600)
  try {
    chmodSync(temporary, 0o600)
    writeSync(descriptor, `${JSON.stringify(next, null, 2)}\n`)
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
  renameSync(temporary, file)
}
