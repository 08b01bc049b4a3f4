import type { HttpRequest, HttpResponse, us_socket_context_t } from '@uwsjs/core'
import { BeaconError } from '../errors.ts'
import { SUBPROTOCOL } from '../protocol/limits.ts'
import { type Answer, answerTo, type PlainRequest, reasonOf, refusal } from './answers.ts'
import { callerRule, handshakeFault, isWebSocketUpgrade, upgradeRequest } from './handshake.ts'
import type { Admission, ListenOptions } from './transport.ts'
import { Endings } from './uws-endings.ts'
import { type Carried, UwsRobotSocket } from './uws-socket.ts'

/** Headers that matter; the others are not copied. */
const HEADERS = new Set([
  'host',
  'authorization',
  'connection',
  'upgrade',
  'content-length',
  'transfer-encoding',
  'sec-websocket-key',
  'sec-websocket-version',
  'sec-websocket-protocol',
  'x-forwarded-for',
  'x-request-id',
])

/** Copies what matters out of a request, which is gone when the call returns. Joined as node:http does. */
function copyRequest(request: HttpRequest): PlainRequest & { headers: Record<string, string> } {
  const headers: Record<string, string> = {}
  request.forEach((name, value) => {
    if (!HEADERS.has(name)) return
    const before = headers[name]
    if (before === undefined) headers[name] = value
    else if (name !== 'authorization' && name !== 'host') headers[name] = `${before}, ${value}`
  })
  return { method: request.getCaseSensitiveMethod(), path: request.getUrl(), headers }
}

function offersUpgrade(headers: Readonly<Record<string, string>>): boolean {
  return (headers.connection ?? '').split(',').some((token) => token.trim().toLowerCase() === 'upgrade')
}

/** The peer's address in a form that is one already where it is IPv4. */
function addressOf(response: HttpResponse): string {
  const bytes = new Uint8Array(response.getRemoteAddress())
  return bytes.length === 4
    ? `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`
    : Buffer.from(response.getRemoteAddressAsText()).toString('latin1')
}

function write(response: HttpResponse, request: PlainRequest, answer: Answer): void {
  response.writeStatus(`${answer.status} ${reasonOf(answer.status)}`)
  for (const name in answer.headers) response.writeHeader(name, answer.headers[name]!)
  // As the engine counts it; it leaves the header out where the caller said the same.
  const callerCloses = request.headers.connection?.length === 5
  if (request.method === 'HEAD') {
    if (answer.last || callerCloses) response.writeHeader('connection', 'close')
    // With the length as its parameter, the engine would take the answer for unfinished.
    response.writeHeader('content-length', String(Buffer.byteLength(answer.body)))
    response.endWithoutBody()
    return
  }
  if (callerCloses) response.writeHeader('connection', 'close')
  response.end(answer.body, answer.last)
}

/** `context` is missing where there is no upgrade, or the engine saw no key of the right length. */
type Take = (response: HttpResponse, request: HttpRequest, context?: us_socket_context_t) => void

/** What takes requests: answers them, or asks about the upgrades that they are and makes robots' sockets of them. */
export function takeRequests(options: ListenOptions): Take {
  const endings = new Endings(options.clock)
  const callerOf = callerRule(options.trustedProxies)

  return (response, request, context) => {
    let isGone = false
    // First of all: the engine ends the process when a call returns that has neither answered nor done this.
    response.onAborted(() => {
      isGone = true
    })
    const copy = copyRequest(request)
    if (!isWebSocketUpgrade(copy) || !offersUpgrade(copy.headers)) {
      write(response, copy, answerTo(copy, options))
      return
    }
    const refuse = (error: BeaconError): void => write(response, copy, refusal(error, copy, options.headers))
    const fault = handshakeFault(copy.path, options.path, copy.headers)
    if (fault) {
      refuse(fault)
      return
    }
    const { headers } = copy
    const asked = upgradeRequest(headers, callerOf(addressOf(response), headers['x-forwarded-for']))
    let peer: UwsRobotSocket | undefined
    const settle = (admission: Admission): void => {
      if (isGone) return
      if (admission.kind === 'refuse') {
        response.cork(() => refuse(admission.error))
        return
      }
      const { open } = admission
      const robot = new UwsRobotSocket(asked.remoteAddress, endings)
      response.cork(() =>
        response.upgrade<Carried>(
          { peer: robot },
          headers['sec-websocket-key']!,
          asked.subprotocols.includes(SUBPROTOCOL) ? SUBPROTOCOL : '',
          '',
          context!,
        ),
      )
      // From here on the engine has a socket, and the response must not be touched any more.
      peer = robot
      peer.begin(open)
    }
    options
      .admit({ ...asked, isGone: () => isGone })
      .then(settle)
      .catch((error: unknown) => {
        options.log.error({ err: error }, 'an upgrade failed')
        if (peer) peer.terminate()
        else if (!isGone) response.cork(() => refuse(new BeaconError('internal_error')))
      })
  }
}
