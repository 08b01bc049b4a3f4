import { accessSync, constants, readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { availableParallelism, homedir, userInfo } from 'node:os'
import { join } from 'node:path'
import { createSecureContext } from 'node:tls'
import { z } from 'zod'
import {
  MAX_HEARTBEAT_INTERVAL_MS,
  MAX_RECONNECT_SPREAD_MS,
  MIN_HEARTBEAT_INTERVAL_MS,
} from './protocol/limits.ts'
import { isCheckedToken } from './protocol/tokens.ts'

/** Where people may sign in besides with a password. */
export interface OidcSettings {
  readonly issuer: string
  readonly clientId: string
  readonly clientSecret: string | undefined
  readonly scopes: string
  /** Values of `amr` or `acr` that say that the provider saw a second factor. */
  readonly secondFactorValues: readonly string[]
}

/** Files in PEM form: the certificate with its chain, and its private key. */
export interface TlsSettings {
  readonly certFile: string
  readonly keyFile: string
}

/** Settings of the server, read once from the environment. Units stand in the names. */
export interface Config {
  readonly host: string
  readonly port: number
  /** Where robots and operators reach this server from outside, without a slash at the end. */
  readonly publicUrl: string | undefined
  readonly dataDir: string
  /** Undefined: a private PostgreSQL of our own in the data folder. */
  readonly databaseUrl: string | undefined
  /** Of the tables' owner, for migrations; undefined: the same as `databaseUrl`. */
  readonly databaseOwnerUrl: string | undefined
  readonly adminToken: string | undefined
  /** 32 bytes; undefined: made and kept in the data folder. */
  readonly secretKey: Buffer | undefined
  /** Keys that only open what they sealed. */
  readonly secretKeyPrevious: readonly Buffer[]
  /** Addresses or CIDR ranges whose X-Forwarded-For is believed. */
  readonly trustedProxies: readonly string[]
  /** With one token; 0: as many as come. */
  readonly requestsPerSecond: number
  readonly logLevel: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent'
  readonly heartbeatIntervalMs: number
  /** How long each level of the history is kept. */
  readonly history: { readonly rawMs: number; readonly minutesMs: number; readonly hoursMs: number }
  readonly gatewayEngine: 'auto' | 'ws' | 'uws'
  /** Where the gateway listens by itself; 0: any port. With one process of the ws engine it does not. */
  readonly gatewayPort: number
  /** How many processes hold robots. 1: the server itself does. */
  readonly gatewayProcesses: number
  /** How many robot sessions all processes of this server together open in a second; 0: as many as come. */
  readonly sessionsPerSecond: number
  /** Over how long robots whose session breaks without a word come back; undefined: as their number asks for. */
  readonly reconnectSpreadMs: number | undefined
  /** For both ports; undefined: plain HTTP, for a proxy to wrap. */
  readonly tls: TlsSettings | undefined
  readonly bus: 'local' | 'postgres'
  /** What is done about a robot that seems to be a copy of another. */
  readonly clonePolicy: 'alert' | 'quarantine_newcomer'
  readonly oidc: OidcSettings | undefined
  /** BEACON_* names that nothing reads: said aloud, not refused, for orchestrators inject names of their own. */
  readonly unknownNames: readonly string[]
}

/** Every mistake in the settings at once; the message never quotes a secret. */
export class ConfigError extends Error {
  readonly mistakes: readonly string[]
  constructor(mistakes: readonly string[]) {
    super(`the settings are not valid:\n${mistakes.map((mistake) => `  - ${mistake}`).join('\n')}`)
    this.name = 'ConfigError'
    this.mistakes = mistakes
  }
}

const number = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d+(\.\d+)?$/, 'must be a number')
    .transform(Number)
    .refine((value) => value >= min && value <= max, `must lie between ${min} and ${max}`)

const wholeNumber = (min: number, max: number) =>
  number(min, max).refine(Number.isInteger, 'must be a whole number')

function isCidr(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/')
  const family = isIP(address)
  if (family === 0 || rest.length > 0) return false
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128))
}

const MAX_GATEWAY_PROCESSES = 256
/** Leaves time for the heartbeats of robots that are there already, on the slower of the two engines. */
const SESSIONS_PER_SECOND_AND_CORE = 1_000

const KEY = /^([0-9a-fA-F]{64}|[A-Za-z0-9+/]{43}=)$/
const keyOf = (text: string) => Buffer.from(text, text.length === 64 ? 'hex' : 'base64')

function isIssuer(text: string): boolean {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || url.username || url.password || url.search || url.hash) return false
  const local = ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname)
  return url.protocol === 'https:' || (url.protocol === 'http:' && local)
}

const schema = z.object({
  BEACON_HOST: z.string().min(1).default('127.0.0.1'),
  BEACON_PORT: wholeNumber(0, 65_535).default(8080),
  BEACON_PUBLIC_URL: z
    .string()
    .regex(/^https?:\/\/[^\s/?#]+(\/[^\s?#]*)?$/, 'must be an http or https address without query')
    .transform((url) => url.replace(/\/+$/, ''))
    .optional(),
  BEACON_DATA_DIR: z.string().min(1).optional(),
  BEACON_DATABASE_URL: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'must begin with postgres://')
    .optional(),
  BEACON_DATABASE_OWNER_URL: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'must begin with postgres://')
    .optional(),
  BEACON_ADMIN_TOKEN: z
    .string()
    .refine((token) => isCheckedToken('personal', token), 'must be a well-formed rf_pat_ token')
    .optional(),
  BEACON_SECRET_KEY: z.string().regex(KEY, 'must be 32 bytes as hex or base64').transform(keyOf).optional(),
  BEACON_SECRET_KEY_PREVIOUS: z
    .string()
    .transform((list) => list.split(/[\s,]+/).filter(Boolean))
    .refine((list) => list.every((text) => KEY.test(text)), 'must be keys of 32 bytes, separated by commas')
    .transform((list) => list.map(keyOf))
    .default([]),
  BEACON_TRUSTED_PROXIES: z
    .string()
    .transform((list) =>
      list
        .split(',')
        .map((item) => item.trim())
        .filter(Boolean),
    )
    .refine((list) => list.every(isCidr), 'must be addresses or CIDR ranges, separated by commas')
    .default([]),
  BEACON_REQUESTS_PER_SECOND: number(0, 1_000_000).default(300),
  BEACON_LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  BEACON_HEARTBEAT_SECONDS: number(
    MIN_HEARTBEAT_INTERVAL_MS / 1000,
    MAX_HEARTBEAT_INTERVAL_MS / 1000,
  ).default(10),
  BEACON_HISTORY_HOURS: number(1, 24 * 366).default(48),
  BEACON_HISTORY_MINUTES_DAYS: number(1, 3_660).default(14),
  BEACON_HISTORY_HOURS_DAYS: number(1, 3_660).default(400),
  BEACON_GATEWAY_ENGINE: z.enum(['auto', 'ws', 'uws']).default('auto'),
  BEACON_GATEWAY_PORT: wholeNumber(0, 65_535).optional(),
  BEACON_GATEWAY_PROCESSES: z
    .string()
    .transform((text) => (text === 'auto' ? String(availableParallelism()) : text))
    .pipe(wholeNumber(1, MAX_GATEWAY_PROCESSES))
    .default(1),
  BEACON_SESSIONS_PER_SECOND: wholeNumber(0, 1_000_000).optional(),
  BEACON_RECONNECT_SPREAD_SECONDS: z
    .string()
    .transform((text) => (text === 'auto' ? undefined : text))
    .pipe(
      number(0, MAX_RECONNECT_SPREAD_MS / 1000)
        .transform((seconds) => Math.round(seconds * 1000))
        .optional(),
    )
    .optional(),
  BEACON_TLS_CERT_FILE: z.string().min(1).optional(),
  BEACON_TLS_KEY_FILE: z.string().min(1).optional(),
  BEACON_BUS: z.enum(['local', 'postgres']).optional(),
  BEACON_CLONE_POLICY: z.enum(['alert', 'quarantine_newcomer']).default('alert'),
  BEACON_OIDC_ISSUER: z
    .string()
    .refine(isIssuer, 'must be an https address without query (http only for this machine)')
    .optional(),
  BEACON_OIDC_CLIENT_ID: z.string().min(1).optional(),
  BEACON_OIDC_CLIENT_SECRET: z.string().min(1).optional(),
  BEACON_OIDC_SCOPES: z
    .string()
    .refine((scopes) => scopes.split(' ').includes('openid'), 'must hold openid')
    .default('openid email'),
  BEACON_OIDC_SECOND_FACTOR: z
    .string()
    .transform((list) =>
      list
        .split(',')
        .map((item) => item.trim())
        .filter(Boolean),
    )
    .default([]),
})

const SECRET_NAMES = [
  'BEACON_ADMIN_TOKEN',
  'BEACON_SECRET_KEY',
  'BEACON_SECRET_KEY_PREVIOUS',
  'BEACON_DATABASE_URL',
  'BEACON_DATABASE_OWNER_URL',
  'BEACON_OIDC_CLIENT_SECRET',
] as const

/** Takes `NAME_FILE` for the settings that hold secrets, so that they need not stand in the environment. */
function withSecretFiles(env: NodeJS.ProcessEnv, mistakes: string[]): NodeJS.ProcessEnv {
  const merged = { ...env }
  for (const name of SECRET_NAMES) {
    const file = env[`${name}_FILE`]
    if (!file) continue
    if (env[name]) mistakes.push(`${name} and ${name}_FILE are both set`)
    try {
      merged[name] = readFileSync(file, 'utf8').trim()
    } catch (error) {
      mistakes.push(`${name}_FILE: cannot read ${file} (${(error as NodeJS.ErrnoException).code})`)
    }
  }
  return merged
}

function defaultDataDir(env: NodeJS.ProcessEnv): string {
  if (userInfo().uid === 0) return '/var/lib/beacon-server'
  return join(env.XDG_DATA_HOME || join(homedir(), '.local', 'share'), 'beacon')
}

/** Where the data is, for programs other than the server. Throws ConfigError. */
export function readDatabaseSettings(env: NodeJS.ProcessEnv): Pick<Config, 'databaseUrl' | 'dataDir'> {
  const { BEACON_DATABASE_URL, BEACON_DATABASE_URL_FILE, BEACON_DATA_DIR, HOME, XDG_DATA_HOME } = env
  const given = { BEACON_DATABASE_URL, BEACON_DATABASE_URL_FILE, BEACON_DATA_DIR, HOME, XDG_DATA_HOME }
  const { databaseUrl, dataDir } = readConfig(
    Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
  )
  return { databaseUrl, dataDir }
}

/** Reads the settings from the environment. Throws ConfigError with every mistake there is. */
export function readConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const mistakes: string[] = []
  const merged = withSecretFiles(env, mistakes)
  // An empty variable is how compose files and unit files say "not set".
  const given = Object.fromEntries(Object.keys(schema.shape).map((name) => [name, merged[name] || undefined]))
  const parsed = schema.safeParse(given)
  if (!parsed.success)
    for (const issue of parsed.error.issues) mistakes.push(`${issue.path.join('.')} ${issue.message}`)
  if (given.BEACON_DATABASE_OWNER_URL && !given.BEACON_DATABASE_URL)
    mistakes.push('BEACON_DATABASE_OWNER_URL is set, and BEACON_DATABASE_URL is not')
  if (Boolean(given.BEACON_OIDC_ISSUER) !== Boolean(given.BEACON_OIDC_CLIENT_ID))
    mistakes.push('BEACON_OIDC_ISSUER and BEACON_OIDC_CLIENT_ID belong together')
  if (Boolean(given.BEACON_TLS_CERT_FILE) !== Boolean(given.BEACON_TLS_KEY_FILE))
    mistakes.push('BEACON_TLS_CERT_FILE and BEACON_TLS_KEY_FILE belong together')
  for (const name of ['BEACON_TLS_CERT_FILE', 'BEACON_TLS_KEY_FILE'] as const)
    if (given[name]) demandReadable(name, given[name], mistakes)
  if (parsed.success && mistakes.length === 0) demandCertificate(tlsOf(parsed.data), mistakes)
  if (parsed.success) {
    const { BEACON_GATEWAY_PROCESSES: processes, BEACON_GATEWAY_PORT: port, BEACON_BUS: bus } = parsed.data
    if (processes > 1 && bus === 'local')
      mistakes.push(
        'BEACON_BUS is local, and BEACON_GATEWAY_PROCESSES more than 1: they would not hear each other',
      )
    if (port !== undefined && port !== 0 && port === parsed.data.BEACON_PORT)
      mistakes.push('BEACON_GATEWAY_PORT and BEACON_PORT are the same')
    if (port === undefined && parsed.data.BEACON_PORT === 65_535)
      mistakes.push('BEACON_GATEWAY_PORT is needed, for there is no port after BEACON_PORT')
  }
  if (!parsed.success || mistakes.length > 0) throw new ConfigError(mistakes)
  const values = parsed.data
  return Object.freeze({
    host: values.BEACON_HOST,
    port: values.BEACON_PORT,
    publicUrl: values.BEACON_PUBLIC_URL,
    dataDir: values.BEACON_DATA_DIR ?? defaultDataDir(env),
    databaseUrl: values.BEACON_DATABASE_URL,
    databaseOwnerUrl: values.BEACON_DATABASE_OWNER_URL,
    adminToken: values.BEACON_ADMIN_TOKEN,
    secretKey: values.BEACON_SECRET_KEY,
    secretKeyPrevious: values.BEACON_SECRET_KEY_PREVIOUS,
    trustedProxies: values.BEACON_TRUSTED_PROXIES,
    requestsPerSecond: values.BEACON_REQUESTS_PER_SECOND,
    logLevel: values.BEACON_LOG_LEVEL,
    heartbeatIntervalMs: Math.round(values.BEACON_HEARTBEAT_SECONDS * 1000),
    history: {
      rawMs: values.BEACON_HISTORY_HOURS * 3_600_000,
      minutesMs: values.BEACON_HISTORY_MINUTES_DAYS * 86_400_000,
      hoursMs: values.BEACON_HISTORY_HOURS_DAYS * 86_400_000,
    },
    gatewayEngine: values.BEACON_GATEWAY_ENGINE,
    gatewayPort: values.BEACON_GATEWAY_PORT ?? (values.BEACON_PORT === 0 ? 0 : values.BEACON_PORT + 1),
    gatewayProcesses: values.BEACON_GATEWAY_PROCESSES,
    sessionsPerSecond:
      values.BEACON_SESSIONS_PER_SECOND ?? defaultSessionsPerSecond(values.BEACON_GATEWAY_PROCESSES),
    reconnectSpreadMs: values.BEACON_RECONNECT_SPREAD_SECONDS,
    tls: tlsOf(values),
    bus:
      values.BEACON_BUS ??
      (values.BEACON_DATABASE_URL || values.BEACON_GATEWAY_PROCESSES > 1 ? 'postgres' : 'local'),
    clonePolicy: values.BEACON_CLONE_POLICY,
    oidc: oidcOf(values),
    unknownNames: Object.keys(env).filter((name) => name.startsWith('BEACON_') && !isKnownName(name)),
  })
}

function defaultSessionsPerSecond(processes: number): number {
  return SESSIONS_PER_SECOND_AND_CORE * Math.min(processes, availableParallelism())
}

function demandReadable(name: string, file: string, mistakes: string[]): void {
  try {
    accessSync(file, constants.R_OK)
  } catch (error) {
    mistakes.push(`${name}: cannot read ${file} (${(error as NodeJS.ErrnoException).code})`)
  }
}

function demandCertificate(tls: TlsSettings | undefined, mistakes: string[]): void {
  if (!tls) return
  try {
    createSecureContext({ cert: readFileSync(tls.certFile), key: readFileSync(tls.keyFile) })
  } catch (error) {
    mistakes.push(
      `BEACON_TLS_CERT_FILE and BEACON_TLS_KEY_FILE are no certificate and its key in PEM: ${(error as Error).message}`,
    )
  }
}

function tlsOf(values: z.output<typeof schema>): TlsSettings | undefined {
  const { BEACON_TLS_CERT_FILE: certFile, BEACON_TLS_KEY_FILE: keyFile } = values
  return certFile === undefined || keyFile === undefined ? undefined : { certFile, keyFile }
}

function oidcOf(values: z.output<typeof schema>): OidcSettings | undefined {
  const { BEACON_OIDC_ISSUER: issuer, BEACON_OIDC_CLIENT_ID: clientId } = values
  if (issuer === undefined || clientId === undefined) return undefined
  return {
    issuer,
    clientId,
    clientSecret: values.BEACON_OIDC_CLIENT_SECRET,
    scopes: values.BEACON_OIDC_SCOPES,
    secondFactorValues: values.BEACON_OIDC_SECOND_FACTOR,
  }
}

/** Settings of the agent, the operator's command line and other engines, which may stand in the same environment. */
const NAMES_OF_OTHERS = [
  'BEACON_URL',
  'BEACON_API_KEY',
  'BEACON_API_KEY_FILE',
  'BEACON_SERVER',
  'BEACON_ENROLLMENT_KEY',
  'BEACON_ENROLLMENT_KEY_FILE',
  'BEACON_SETUP_TOKEN',
  'BEACON_NAME',
  'BEACON_CONFIG',
]

function isKnownName(name: string): boolean {
  if (name in schema.shape || NAMES_OF_OTHERS.includes(name)) return true
  return SECRET_NAMES.some((secret) => name === `${secret}_FILE`)
}

/** A variable that is none of our settings, for programs that are started. */
export function inherited(name: string): string | undefined {
  return process.env[name]
}

/**
 * What to add to the environment of a process so that it inherits none of our settings, for some are secrets: every
 * name of ours, with no value.
 */
export function withoutSettings(env: NodeJS.ProcessEnv = process.env): Record<string, undefined> {
  const names = Object.keys(env).filter((name) => name.startsWith('BEACON_'))
  return Object.fromEntries(names.map((name) => [name, undefined]))
}
