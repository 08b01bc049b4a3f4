import { randomBytes } from 'node:crypto'
import { SUBPROTOCOL } from '../../src/protocol/limits.ts'
import { problemCode, problemText } from '../http.ts'
import { describeError, duration } from '../text.ts'
import { type Answer, get, type ReachParts } from './reach.ts'
import { type Finding, fail, ok, skip, warn } from './report.ts'

/** More than this is no delay of the network. Nothing of the agent depends on the clock, but TLS and people do. */
const MAX_SKEW_MS = 30_000

/** What the server says of itself, and by its clock. True when it is a control plane. */
export async function lookAtServer(server: URL, parts: ReachParts, findings: Finding[]): Promise<boolean> {
  const check = 'server.http'
  const address = new URL(`${server.href.replace(/\/+$/, '')}/api/info`)
  let answer: Answer
  const askedAt = parts.now()
  try {
    answer = await get(address, {}, parts)
  } catch (error) {
    findings.push(
      fail(
        check,
        `${address} does not answer: ${describeError(error)}`,
        'check that --server names a control plane, with its port',
      ),
    )
    return false
  }
  const { status, body } = answer
  const isBeacon = status === 200 && body?.name === 'beacon'
  if (!isBeacon) {
    const elsewhere = answer.headers.location ? `, and points to ${answer.headers.location}` : ''
    findings.push(
      fail(
        check,
        `${address} answers HTTP ${status}${elsewhere}: that is no control plane`,
        'check --server, with its path; a sign-in page of this network may also answer in its place',
      ),
    )
    return false
  }
  if (body.protocol === SUBPROTOCOL) findings.push(ok(check, `beacon ${body.version}, ${body.protocol}`))
  else
    findings.push(
      fail(
        check,
        `the server speaks ${body.protocol}, this agent ${SUBPROTOCOL}`,
        'update the older of the two',
      ),
    )
  findings.push(judgeClock(answer.headers.date, askedAt, parts.now()))
  return true
}

/** Compares the Date header with this machine's time before and after asking for it. */
export function judgeClock(header: string | undefined, askedAt: number, answeredAt: number): Finding {
  const check = 'clock'
  const serverAt = Date.parse(header ?? '')
  if (Number.isNaN(serverAt)) return skip(check, 'the server does not tell its time')
  // The header is cut to whole seconds.
  const behind = serverAt - answeredAt
  const ahead = askedAt - (serverAt + 1_000)
  const skew = Math.max(behind, ahead)
  if (skew <= MAX_SKEW_MS)
    return ok(check, `agrees with the server's within ${duration(Math.max(1_000, skew))}`)
  return warn(
    check,
    `this robot's clock is ${duration(skew)} ${behind > ahead ? 'behind' : 'ahead of'} the server's`,
    'set it: timedatectl set-ntp true; without a battery-backed clock a robot has the wrong time until it has a network',
  )
}

/**
 * Whether an upgrade to a WebSocket reaches the gateway. It is asked for without a token: the gateway itself then
 * refuses it, which nothing in between does in these words, and no session is opened or taken over.
 */
export async function lookAtUpgrade(gateway: URL, parts: ReachParts): Promise<Finding> {
  const check = 'gateway.websocket'
  let answer: Answer
  try {
    answer = await get(
      gateway,
      {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': randomBytes(16).toString('base64'),
        'sec-websocket-protocol': SUBPROTOCOL,
      },
      parts,
    )
  } catch (error) {
    return fail(
      check,
      `the request for a WebSocket is not answered: ${describeError(error)}`,
      'something between robot and server may drop WebSockets: a proxy or firewall has to let them pass',
    )
  }
  const { status, body } = answer
  const code = problemCode(body, answer.headers['content-type'])
  if (status === 401 && code === 'credentials_required')
    return ok(check, 'requests for a WebSocket reach the gateway')
  if (status === 426 || code === 'upgrade_required')
    return fail(
      check,
      'the server gets no request for a WebSocket: something in between takes it out',
      'let the reverse proxy pass the headers Upgrade and Connection on (nginx: proxy_http_version 1.1 and proxy_set_header)',
    )
  if (status === 503)
    return warn(
      check,
      `the gateway takes nobody now: ${problemText(body) ?? 'HTTP 503'}`,
      'wait: the agent comes back by itself when it is told to',
    )
  return fail(
    check,
    `the request for a WebSocket is answered with HTTP ${status}${code ? ` (${code})` : ''}, not by a gateway`,
    'check the gateway address (beacon agent status), and that nothing in between answers in its place',
  )
}

const ROBOT_REMEDY = 'start the agent with a new enrollment key, in --enrollment-key-file'
const NEW_KEY = 'make a new enrollment key, and start the agent with it'

/** What each state of a credential asks of a person. */
const REMEDIES: Readonly<Record<string, string>> = {
  revoked: NEW_KEY,
  retired: 'this robot was retired on purpose: run "beacon agent forget" and enrol it as a new one',
  expired: NEW_KEY,
  exhausted: `raise its number of uses, or ${NEW_KEY}`,
  consumed: 'ask an operator for a new setup token',
}

/** What the server takes a secret for. Burns no use, and disturbs no session. */
export async function lookAtCredential(
  server: URL,
  {
    secret,
    label,
    isRobotToken,
  }: { readonly secret: string; readonly label: string; readonly isRobotToken: boolean },
  parts: ReachParts,
): Promise<Finding> {
  const check = 'credential'
  const address = new URL(`${server.href.replace(/\/+$/, '')}/agent/check`)
  let answer: Answer
  try {
    answer = await get(address, { authorization: `Bearer ${secret}` }, parts)
  } catch (error) {
    return fail(
      check,
      `the server does not say what ${label} is worth: ${describeError(error)}`,
      'run this again',
    )
  }
  const { status, body } = answer
  if (status === 404) return skip(check, 'this server is too old to be asked')
  if (status === 401)
    return fail(check, `the server does not know ${label}`, isRobotToken ? ROBOT_REMEDY : NEW_KEY)
  if (status !== 200)
    return warn(
      check,
      `the server does not say what ${label} is worth: ${problemText(body) ?? `HTTP ${status}`}`,
      'run this again later',
    )
  if (body?.status !== 'active') {
    const remedy = isRobotToken && body?.status === 'revoked' ? ROBOT_REMEDY : REMEDIES[String(body?.status)]
    return fail(check, `${label} is ${body?.status}`, remedy ?? NEW_KEY)
  }
  if (body.address_allowed === false)
    return fail(
      check,
      `${label} may not be used from this robot's address`,
      "add its network to the key's allowed_cidrs, or use another key",
    )
  const uses = typeof body.uses_left === 'number' ? `, for ${body.uses_left} more robots` : ''
  const until = typeof body.expires_at === 'string' ? `, until ${body.expires_at}` : ''
  return ok(check, `${label} is good${uses}${until}`)
}
