import { z } from 'zod'
import { MAX_HEARTBEAT_INTERVAL_MS, MIN_HEARTBEAT_INTERVAL_MS } from '../src/protocol/limits.ts'
import { displayName } from '../src/protocol/text.ts'
import { type Credential, type CredentialSource, type Given, readCredential } from './credential.ts'
import { AgentExit, EXIT } from './exit.ts'
import { LOG_LEVELS, type LogLevel } from './log.ts'
import { type Proxies, readProxies } from './network/proxy.ts'
import { faultOfCaFile, systemTrustFiles, type TrustSettings } from './network/trust.ts'
import type { FileSettings } from './state.ts'

/** Flags of `beacon agent run`, as the command line gave them. */
export interface AgentFlags {
  readonly enrollmentKey?: string
  readonly enrollmentKeyFile?: string
  readonly setupToken?: string
  readonly setupTokenFile?: string
  readonly name?: string
  readonly server?: string
  readonly config?: string
  readonly heartbeatSeconds?: string
  readonly logLevel?: string
  readonly caFile?: string
  readonly adopt?: boolean
}

export type Environment = Readonly<Record<string, string | undefined>>

/** What the agent goes by: flag, else environment, else agent.toml, else the default. */
export interface AgentSettings {
  readonly server: string
  /** A flag or the environment names the server: it outranks where the identity was enrolled. */
  readonly serverIsExplicit: boolean
  readonly name: string | undefined
  /** What to claim an identity with; undefined when the robot is enrolled: then it is not looked for. */
  readonly credential: Credential | undefined
  /** The longest pause between heartbeats that the robot itself wants. */
  readonly ownIntervalMs: number | undefined
  readonly logLevel: LogLevel
  /** What waits for the server may take so much of the disk. */
  readonly spoolBytes: number
  readonly network: NetworkSettings
  /** An identity that is bound to another machine is bound to this one. */
  readonly adopts: boolean
}

/** How the robot's network wants to be used. */
export interface NetworkSettings {
  readonly proxies: Proxies
  readonly trust: TrustSettings
}

export const DEFAULT_SERVER = 'http://127.0.0.1:8080'
const DEFAULT_SPOOL_MB = 16
/** With less, the few longest heartbeats would be all that fits. */
const MIN_SPOOL_MB = 0.1
const MAX_SPOOL_MB = 4_096
const MIN_SECONDS = MIN_HEARTBEAT_INTERVAL_MS / 1_000
const MAX_SECONDS = MAX_HEARTBEAT_INTERVAL_MS / 1_000

const serverSchema = z
  .string()
  .regex(/^https?:\/\/[^\s/?#@]+(\/[^\s?#]*)?$/i, 'must be an http or https address without user or query')
  .refine((url) => URL.canParse(url), 'must be an http or https address')
  .transform((url) => url.replace(/\/+$/, ''))
const megabytesSchema = z
  .string()
  .regex(/^\d{1,9}(\.\d{1,3})?$/, 'must be a number of megabytes')
  .transform(Number)
  .refine((megabytes) => megabytes >= MIN_SPOOL_MB, `must be at least ${MIN_SPOOL_MB}`)
  .refine((megabytes) => megabytes <= MAX_SPOOL_MB, `must be at most ${MAX_SPOOL_MB}`)
const secondsSchema = z
  .string()
  .regex(/^\d+(\.\d+)?$/, 'must be a number of seconds')
  .transform(Number)
  .refine(
    (seconds) => seconds >= MIN_SECONDS && seconds <= MAX_SECONDS,
    `must lie between ${MIN_SECONDS} and ${MAX_SECONDS}`,
  )
/** The control plane's levels, for the variable may be meant for both. */
const levelSchema = z
  .enum(['trace', ...LOG_LEVELS, 'fatal'], `must be one of ${LOG_LEVELS.join(', ')}`)
  .transform((level): LogLevel => (level === 'trace' ? 'debug' : level === 'fatal' ? 'error' : level))
const yesSchema = z.stringbool({
  truthy: ['true', '1', 'yes'],
  falsy: ['false', '0', 'no'],
  error: 'must be true or false',
})

/** The server's address as the agent goes by it; undefined: it is none. */
export function serverAddress(given: string): string | undefined {
  return serverSchema.safeParse(given).data
}

/** The config file that a flag or the environment names. */
export function configPathIn(flags: Pick<AgentFlags, 'config'>, env: Environment): string | undefined {
  return flags.config || env.BEACON_CONFIG || undefined
}

/**
 * Reads the settings; every mistake is reported at once, none quotes a secret. Credentials that `left` names lie ready for
 * when nobody gives another.
 */
export function readSettings(
  flags: AgentFlags,
  env: Environment,
  file: FileSettings,
  isEnrolled: boolean,
  left: readonly CredentialSource[] = [],
): AgentSettings {
  const mistakes: string[] = []
  const take = <Output>(schema: z.ZodType<Output, string>, given: Given | undefined): Output | undefined => {
    if (!given) return undefined
    const parsed = schema.safeParse(given.value)
    if (parsed.success) return parsed.data
    mistakes.push(`${given.label} ${parsed.error.issues[0]?.message}`)
    return undefined
  }

  const givenServer = first(
    ['--server', flags.server],
    ['BEACON_SERVER', env.BEACON_SERVER],
    ['server in agent.toml', file.server],
  )
  const server = take(serverSchema, givenServer)
  const name = take(
    displayName(),
    first(['--name', flags.name], ['BEACON_NAME', env.BEACON_NAME], ['name in agent.toml', file.name]),
  )
  const seconds = take(
    secondsSchema,
    first(
      ['--heartbeat-seconds', flags.heartbeatSeconds],
      ['BEACON_HEARTBEAT_SECONDS', env.BEACON_HEARTBEAT_SECONDS],
      ['heartbeat_seconds in agent.toml', file.heartbeatSeconds?.toString()],
    ),
  )
  const spoolMb = take(
    megabytesSchema,
    first(['BEACON_SPOOL_MB', env.BEACON_SPOOL_MB], ['spool_mb in agent.toml', file.spoolMb?.toString()]),
  )
  const logLevel = take(
    levelSchema,
    first(
      ['--log-level', flags.logLevel],
      ['BEACON_LOG_LEVEL', env.BEACON_LOG_LEVEL],
      ['log_level in agent.toml', file.logLevel],
    ),
  )
  const network = networkIn(flags, env, file, mistakes)
  const adopt = take(yesSchema, first(['BEACON_ADOPT', env.BEACON_ADOPT]))
  const credential = isEnrolled ? undefined : readCredential(sourcesOf(flags, env, file, left), mistakes)
  if (!isEnrolled && credential === undefined && mistakes.length === 0)
    mistakes.push(
      'this robot is not enrolled yet: --enrollment-key, --enrollment-key-file or --setup-token is needed',
    )
  if (mistakes.length > 0) throw new AgentExit(EXIT.usage, mistakes.join('\n'))
  return {
    server: server ?? DEFAULT_SERVER,
    serverIsExplicit: Boolean(flags.server || env.BEACON_SERVER),
    name,
    credential,
    ownIntervalMs: seconds === undefined ? undefined : Math.round(seconds * 1_000),
    logLevel: logLevel ?? 'info',
    spoolBytes: Math.round((spoolMb ?? DEFAULT_SPOOL_MB) * 1024 * 1024),
    network,
    adopts: flags.adopt ?? adopt ?? false,
  }
}

/** Reads how the network is used; what is wrong is added to `mistakes`, and left out. */
export function networkIn(
  flags: Pick<AgentFlags, 'caFile'>,
  env: Environment,
  file: FileSettings,
  mistakes: string[],
): NetworkSettings {
  const given = first(
    ['--ca-file', flags.caFile],
    ['BEACON_CA_FILE', env.BEACON_CA_FILE],
    ['ca_file in agent.toml', file.caFile],
  )
  const fault = given && faultOfCaFile(given.value)
  if (given && fault) mistakes.push(`${given.label}: ${fault}`)
  const caFile = fault === undefined ? given?.value : undefined
  return { proxies: readProxies(env, mistakes), trust: { caFile, systemFiles: systemTrustFiles(env) } }
}

function first(...candidates: [label: string, value: string | undefined][]): Given | undefined {
  for (const [label, value] of candidates) if (value) return { label, value }
  return undefined
}

/** What stands in the places for credentials now; a file may hold another one than it did. */
export function lookForCredential(
  flags: AgentFlags,
  env: Environment,
  file: FileSettings,
  left: readonly CredentialSource[] = [],
): { readonly credential: Credential | undefined; readonly mistakes: readonly string[] } {
  const mistakes: string[] = []
  return { credential: readCredential(sourcesOf(flags, env, file, left), mistakes), mistakes }
}

function sourcesOf(
  flags: AgentFlags,
  env: Environment,
  file: FileSettings,
  left: readonly CredentialSource[],
): CredentialSource[] {
  return [
    {
      key: first(['--enrollment-key', flags.enrollmentKey]),
      keyFile: first(['--enrollment-key-file', flags.enrollmentKeyFile]),
      setupToken: first(['--setup-token', flags.setupToken]),
      setupTokenFile: first(['--setup-token-file', flags.setupTokenFile]),
    },
    {
      key: first(['BEACON_ENROLLMENT_KEY', env.BEACON_ENROLLMENT_KEY]),
      keyFile: first(['BEACON_ENROLLMENT_KEY_FILE', env.BEACON_ENROLLMENT_KEY_FILE]),
      setupToken: first(['BEACON_SETUP_TOKEN', env.BEACON_SETUP_TOKEN]),
      setupTokenFile: first(['BEACON_SETUP_TOKEN_FILE', env.BEACON_SETUP_TOKEN_FILE]),
    },
    { keyFile: first(['enrollment_key_file in agent.toml', file.enrollmentKeyFile]) },
    ...left,
  ]
}
