import { gatewayFor } from '../addresses.ts'
import { AgentExit } from '../exit.ts'
import { credentialsLeft } from '../handed-over.ts'
import { askRunningAgent } from '../lock.ts'
import type { Network } from '../network/dial.ts'
import { Trust } from '../network/trust.ts'
import type { Places } from '../places.ts'
import type { Clock } from '../runtime.ts'
import { type Scope, UNIT } from '../service/layout.ts'
import {
  type AgentFlags,
  DEFAULT_SERVER,
  type Environment,
  lookForCredential,
  networkIn,
  serverAddress,
} from '../settings.ts'
import type { AgentState } from '../state.ts'
import type { AgentStatus } from '../status.ts'
import { describeError, duration } from '../text.ts'
import { lookAtDisk, lookAtFiles, lookAtIdentity } from './disk.ts'
import { lookAtWay, type ReachParts } from './reach.ts'
import { type Finding, fail, ok, type Report, reportOf, skip, warn } from './report.ts'
import { lookAtCredential, lookAtServer, lookAtUpgrade } from './server.ts'
import { type AskService, askSystemd, lookAtService } from './service.ts'

/** However bad the network is, a person is not kept waiting longer. */
export const EXAMINATION_MS = 40_000

export interface DoctorParts {
  readonly places: Places
  readonly flags: AgentFlags
  readonly env: Environment
  readonly clock: Clock
  /** Whose service would run this agent. */
  readonly scope: Scope
  /** Who has no robot of their own may mean the machine's service. */
  readonly mayMeanOther?: boolean
  readonly askService?: AskService
}

/** Looks at everything that an agent needs, and changes nothing: neither here, nor on the server, nor for a running agent. */
export async function examine(parts: DoctorParts): Promise<Report> {
  const { places, clock, scope, mayMeanOther, askService = askSystemd } = parts
  const ending = new AbortController()
  const timer = clock.after(EXAMINATION_MS, () => ending.abort())
  const findings: Finding[] = []
  try {
    const { state, finding } = lookAtIdentity(places, mayMeanOther)
    findings.push(finding, ...lookAtFiles(places), ...lookAtDisk(places))
    const status = await lookAtAgent(parts, findings)
    findings.push(await lookAtService(UNIT, scope, status !== undefined, askService))
    const isUnknown = finding.verdict === 'fail' || (mayMeanOther === true && state.identity === undefined)
    await lookAtNetwork(parts, { state, isUnknown }, ending.signal, findings)
  } finally {
    timer.cancel()
  }
  return reportOf(findings)
}

/** What the running agent says of its own session: better than anything that could be tried beside it. */
async function lookAtAgent(
  { places, clock }: DoctorParts,
  findings: Finding[],
): Promise<AgentStatus | undefined> {
  const check = 'agent'
  let status: AgentStatus | undefined
  try {
    status = (await askRunningAgent(places, clock)) as AgentStatus | undefined
  } catch (error) {
    if (!(error instanceof AgentExit)) throw error
    findings.push(fail(check, error.message, 'start it again; if it hangs again, look at its log'))
    return undefined
  }
  if (!status) {
    findings.push(warn(check, 'no agent runs on this identity', 'start it: beacon agent run, or its service'))
    return undefined
  }
  const { link, pid } = status
  const running = `runs with pid ${pid}`
  if (link?.connection === 'connected') {
    const ack =
      link.last_ack_age_ms === null
        ? 'nothing acknowledged yet'
        : `last acknowledged ${duration(link.last_ack_age_ms)} ago`
    findings.push(ok(check, `${running}, session ${link.session_no} since ${link.connected_since}, ${ack}`))
  } else {
    const why = link?.last_error ? `: ${link.last_error}` : ''
    findings.push(
      warn(
        check,
        `${running}, without a session${why}`,
        'see what is said of the network below; its log tells more',
      ),
    )
  }
  return status
}

async function lookAtNetwork(
  { places, flags, env, clock }: DoctorParts,
  { state, isUnknown }: { readonly state: AgentState; readonly isUnknown: boolean },
  signal: AbortSignal,
  findings: Finding[],
): Promise<void> {
  const { identity, settings } = state
  const mistakes: string[] = []
  const found = networkIn(flags, env, settings, mistakes)
  for (const mistake of mistakes)
    findings.push(fail('settings', mistake, 'correct it where it is set: flag, environment or agent.toml'))
  const asked = flags.server || env.BEACON_SERVER || undefined
  if (isUnknown && asked === undefined) {
    findings.push(skip('server.connection', 'which server it has is not known; --server names it'))
    return
  }
  const server = serverAddress(asked ?? identity?.server ?? settings.server ?? DEFAULT_SERVER)
  if (server === undefined) {
    findings.push(
      fail('settings', 'the server’s address is not an http or https address', 'correct --server'),
    )
    return
  }
  const network: Network = { proxies: found.proxies, trust: new Trust(found.trust), clock }
  const reach: ReachParts = { network, signal, now: () => clock.now(), monotonic: () => clock.monotonic() }
  const home = new URL(server)
  const isThere =
    (await lookAtWay('server', home, reach, findings)) && (await lookAtServer(home, reach, findings))
  if (isThere) findings.push(await credentialFinding(home, state, { places, flags, env }, reach))
  else findings.push(skip('credential', 'cannot be asked about'))
  if (!identity) return
  const gateway = gatewayFor(identity, server, asked !== undefined)
  const isMoved = asked !== undefined && server !== identity.server
  const remedy = isMoved
    ? 'nothing, if the control plane is there now; else take that address out of --server or BEACON_SERVER'
    : 'correct BEACON_PUBLIC_URL of the server, and enrol again'
  for (const remark of gateway.remarks) findings.push(warn('gateway.address', remark, remedy))
  const address = new URL(gateway.url)
  const isElsewhere =
    address.host !== home.host || (address.protocol === 'wss:') !== (home.protocol === 'https:')
  const isOpen = isElsewhere ? await lookAtWay('gateway', address, reach, findings) : isThere
  findings.push(
    isOpen ? await lookAtUpgrade(address, reach) : skip('gateway.websocket', 'cannot be asked for'),
  )
}

async function credentialFinding(
  server: URL,
  { identity, settings }: AgentState,
  { places, flags, env }: Pick<DoctorParts, 'places' | 'flags' | 'env'>,
  reach: ReachParts,
): Promise<Finding> {
  if (identity) {
    const { robotToken: secret } = identity
    const own = await lookAtCredential(
      server,
      { secret, label: "this robot's token", isRobotToken: true },
      reach,
    )
    if (own.verdict !== 'fail' || identity.nextToken === undefined) return own
    // It is changing to the next one, which may count already.
    const next = { secret: identity.nextToken, label: "this robot's next token", isRobotToken: true }
    return lookAtCredential(server, next, reach)
  }
  try {
    const left = credentialsLeft(places, env.CREDENTIALS_DIRECTORY)
    const { credential, mistakes } = lookForCredential(flags, env, settings, left)
    if (mistakes.length > 0)
      return fail('credential', mistakes.join('; '), 'correct it, or make a new enrollment key')
    if (!credential)
      return warn(
        'credential',
        'none is given to enrol with',
        'give one: --enrollment-key-file, or --enrollment-key',
      )
    return await lookAtCredential(server, { ...credential, isRobotToken: false }, reach)
  } catch (error) {
    return fail('credential', describeError(error), 'make a new enrollment key')
  }
}
