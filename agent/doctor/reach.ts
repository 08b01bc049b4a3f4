import { lookup } from 'node:dns/promises'
import type { IncomingMessage } from 'node:http'
import { isIP, type Socket } from 'node:net'
import { connect as connectTls, type PeerCertificate, type TLSSocket } from 'node:tls'
import { collect, objectIn } from '../http.ts'
import { connectionsTo, isEncrypted, type Network, openWay, ProxyRefusal } from '../network/dial.ts'
import { httpRequest } from '../network/node-http.ts'
import { hostOf, type ProxyServer, portOf, proxyFor, shownProxy } from '../network/proxy.ts'
import { describeError, duration } from '../text.ts'
import { type Finding, fail, ok, warn } from './report.ts'

const DAY_MS = 86_400_000
/** A certificate that ends sooner should have been renewed by now. */
const SOON_MS = 14 * DAY_MS

export interface ReachParts {
  readonly network: Network
  /** Wall time of this machine, which may be wrong. */
  readonly now: () => number
  readonly monotonic: () => number
  /** Aborted when the whole examination has lasted too long. */
  readonly signal: AbortSignal
}

/**
 * Looks at the way to an address, from its name to its certificate. `name` begins each finding's. True when it can be
 * spoken to.
 */
export async function lookAtWay(
  name: string,
  address: URL,
  parts: ReachParts,
  findings: Finding[],
): Promise<boolean> {
  const { network, signal } = parts
  const proxy = proxyFor(address, network.proxies)
  if (proxy) findings.push(ok(`${name}.proxy`, `goes through ${shownProxy(proxy)} (${proxy.variable})`))
  const dialled = proxy?.url ?? address
  const isFound = await lookAtName(
    `${name}.dns`,
    hostOf(dialled),
    proxy ? 'proxy' : 'server',
    signal,
    findings,
  )
  if (!isFound) return false
  const socket = await lookAtConnection(`${name}.connection`, address, parts, findings)
  if (!socket) return false
  try {
    return !isEncrypted(address) || (await lookAtTls(`${name}.tls`, socket, address, parts, findings))
  } finally {
    socket.destroy()
  }
}

async function lookAtName(
  check: string,
  host: string,
  whose: string,
  signal: AbortSignal,
  findings: Finding[],
): Promise<boolean> {
  if (isIP(host) !== 0) return true
  try {
    const found = await unlessAborted(lookup(host, { all: true }), signal)
    findings.push(ok(check, `${host} is ${found.map(({ address }) => address).join(', ')}`))
    return true
  } catch (error) {
    findings.push(
      fail(
        check,
        `the name ${host} of the ${whose} cannot be looked up: ${describeError(error)}`,
        (error as NodeJS.ErrnoException).code === 'ENOTFOUND'
          ? `check the spelling of the ${whose}'s address, and whether this network's DNS knows it: getent hosts ${host}`
          : 'check that this robot has a network and a DNS server: ip route, cat /etc/resolv.conf',
      ),
    )
    return false
  }
}

async function lookAtConnection(
  check: string,
  address: URL,
  { network, signal, monotonic }: ReachParts,
  findings: Finding[],
): Promise<Socket | undefined> {
  const startedAt = monotonic()
  const target = `${hostOf(address)} port ${portOf(address)}`
  const proxy = proxyFor(address, network.proxies)
  try {
    const socket = await openWay(address, network, signal)
    findings.push(ok(check, `${target} answers in ${duration(monotonic() - startedAt)}`))
    return socket
  } catch (error) {
    findings.push(
      fail(check, `${target} cannot be reached: ${describeError(error)}`, remedyOfConnection(error, proxy)),
    )
    return undefined
  }
}

function remedyOfConnection(error: unknown, proxy: ProxyServer | undefined): string {
  if (error instanceof ProxyRefusal)
    return 'ask whoever runs the proxy to allow CONNECT to this host and port, or name the host in NO_PROXY'
  if (proxy)
    return `check that the proxy runs, and that its address in ${proxy.variable} is right; where none is needed, name the host in NO_PROXY`
  const { code } = ((error as Error).cause ?? error) as NodeJS.ErrnoException
  if (code === 'ECONNREFUSED') return 'check that the server runs, and that the port of --server is right'
  if (code === 'ENETUNREACH' || code === 'EHOSTUNREACH')
    return 'this robot has no way to that network: check Wi-Fi, cable and routes (ip route)'
  return 'a firewall may drop it: allow this robot to reach that host and port; check Wi-Fi and proxy settings'
}

async function lookAtTls(
  check: string,
  socket: Socket,
  address: URL,
  { network, signal, now }: ReachParts,
  findings: Finding[],
): Promise<boolean> {
  const host = hostOf(address)
  let secured: TLSSocket
  try {
    secured = await handshake(socket, host, network, signal)
  } catch (error) {
    findings.push(
      fail(
        check,
        `no encrypted connection: ${describeError(error)}`,
        'check that the port of --server speaks TLS (https), and that nothing in between breaks it open',
      ),
    )
    return false
  }
  const certificate = secured.getPeerCertificate()
  const code = secured.authorized ? undefined : String(secured.authorizationError)
  secured.destroy()
  const finding = judgeCertificate(check, { certificate, code, host, now: now() })
  findings.push(finding)
  return finding.verdict !== 'fail'
}

/** Nothing is sent over this connection: whoever is at the other end may be anybody. */
function handshake(socket: Socket, host: string, network: Network, signal: AbortSignal): Promise<TLSSocket> {
  const secured = connectTls({
    socket,
    host,
    servername: isIP(host) === 0 ? host : '',
    secureContext: network.trust.context(),
    rejectUnauthorized: false,
  })
  secured.on('error', () => {})
  return unlessAborted(
    new Promise((resolve, reject) => {
      secured.once('secureConnect', () => resolve(secured))
      secured.once('error', reject)
      secured.once('close', () => reject(new Error('the connection was closed')))
    }),
    signal,
  )
}

export interface SeenCertificate {
  readonly certificate: Pick<
    PeerCertificate,
    'valid_from' | 'valid_to' | 'subjectaltname' | 'issuer' | 'subject'
  >
  /** Why it is not believed; undefined: it is. */
  readonly code: string | undefined
  readonly host: string
  /** Wall time of this machine. */
  readonly now: number
}

const CLOCK = 'set the clock of this robot: timedatectl set-ntp true'
const TRUST =
  'name the authority that signed it with --ca-file (BEACON_CA_FILE, ca_file in agent.toml), or install it on this system; a proxy that breaks TLS open has one, too'

export function judgeCertificate(check: string, { certificate, code, host, now }: SeenCertificate): Finding {
  const from = Date.parse(certificate.valid_from)
  const to = Date.parse(certificate.valid_to)
  const issuer = certificate.issuer?.O ?? certificate.issuer?.CN ?? 'an unnamed authority'
  const today = new Date(now).toISOString().slice(0, 10)
  if (now < from)
    return fail(
      check,
      `the certificate begins at ${certificate.valid_from}, and this robot's clock says ${today}`,
      CLOCK,
    )
  if (now > to)
    return fail(
      check,
      `the certificate ended at ${certificate.valid_to}, and this robot's clock says ${today}`,
      `renew the server's certificate; or, if that date is wrong, ${CLOCK}`,
    )
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return fail(
      check,
      `the certificate is not for ${host}, but for ${certificate.subjectaltname ?? certificate.subject?.CN ?? 'nobody'}`,
      'use a name that the certificate has in --server, or give the server a certificate for this one',
    )
  if (code !== undefined)
    return fail(check, `the certificate from ${issuer} is not believed (${code})`, TRUST)
  const left = `${Math.floor((to - now) / DAY_MS)} days`
  if (to - now < SOON_MS)
    return warn(
      check,
      `the certificate ends in ${left}`,
      "renew the server's certificate, and see why it was not renewed by itself",
    )
  return ok(check, `the certificate from ${issuer} is believed, and good for ${left}`)
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: Readonly<Record<string, unknown>> | undefined
}

/** Asks for something over HTTP, the way the agent would: with every check of the certificate. */
export function get(
  address: URL,
  headers: Readonly<Record<string, string>>,
  { network, signal }: ReachParts,
): Promise<Answer> {
  const http = new URL(address)
  http.protocol = isEncrypted(address) ? 'https:' : 'http:'
  return unlessAborted(
    new Promise((resolve, reject) => {
      const request = httpRequest({
        method: 'GET',
        path: `${http.pathname}${http.search}`,
        createConnection: connectionsTo(address, network),
        signal,
        headers: { host: http.host, accept: 'application/json', ...headers },
      })
      request.once('error', reject)
      request.once('upgrade', (response, socket) => {
        socket.destroy()
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: undefined })
      })
      request.once('response', (response) => {
        const { statusCode: status = 0, headers: answered } = response
        response.once('error', reject)
        collect(response).then((text) => resolve({ status, headers: answered, body: objectIn(text) }), reject)
      })
      request.end()
    }),
    signal,
  )
}

/** Waits, but not beyond the time of the examination. */
function unlessAborted<Value>(work: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(new Error('no answer in time'))
    if (signal.aborted) giveUp()
    signal.addEventListener('abort', giveUp, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', giveUp))
  })
}
