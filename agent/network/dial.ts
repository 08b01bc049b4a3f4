import type { ClientRequestArgs } from 'node:http'
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import type { Clock } from '../runtime.ts'
import { describeError, printable } from '../text.ts'
import { httpRequest } from './node-http.ts'
import {
  hostOf,
  type Proxies,
  type ProxyServer,
  portOf,
  proxyAuthorization,
  proxyFor,
  shownProxy,
} from './proxy.ts'
import type { Trust } from './trust.ts'

/** How a robot reaches the world: through which proxies, and whom it believes. */
export interface Network {
  readonly proxies: Proxies
  readonly trust: Trust
  readonly clock: Clock
}

/** Until there is a connection, encrypted where the address asks for it; the request has a time of its own. */
export const DIAL_TIMEOUT_MS = 15_000
/**
 * How long one address of a name is tried before the next, IPv6 and IPv4 in turn; the last has all the time that is left.
 * Node gives up an attempt to begin the next, and its 250 ms are less than a round trip on a bad mobile network.
 */
export const ADDRESS_ATTEMPT_MS = 2_500

/** A proxy that did not let the connection through: nothing that the server said. */
export class ProxyRefusal extends Error {
  readonly status: number

  constructor(proxy: ProxyServer, status: number, text: string) {
    const reason = printable(text, 60)
    const needs = status === 407 ? `; ${proxy.variable} has to hold the right user and password` : ''
    super(`the proxy ${shownProxy(proxy)} answers HTTP ${status}${reason ? ` ${reason}` : ''}${needs}`)
    this.name = 'ProxyRefusal'
    this.status = status
  }
}

/** Connects to where an http, https, ws or wss address points, encrypted where it says so. Rejects within DIAL_TIMEOUT_MS. */
export async function dial(address: URL, network: Network): Promise<Socket> {
  const ending = new AbortController()
  const timer = network.clock.after(DIAL_TIMEOUT_MS, () => ending.abort())
  try {
    const socket = await openWay(address, network, ending.signal)
    return isEncrypted(address) ? await encrypt(socket, address, network.trust, ending.signal) : socket
  } catch (error) {
    throw ending.signal.aborted ? new Error('no connection in time') : error
  } finally {
    timer.cancel()
  }
}

/** `createConnection` of node:http's requests, and so of WebSockets: the request goes where `address` points. */
export function connectionsTo(
  address: URL,
  network: Network,
): (options: ClientRequestArgs, callback: (error: Error | null, socket: Socket) => void) => undefined {
  return (_options, callback) => {
    dial(address, network).then(
      (socket) => callback(null, socket),
      // Of the two only one is looked at.
      (error: Error) => callback(error, undefined as never),
    )
  }
}

export function isEncrypted({ protocol }: URL): boolean {
  return protocol === 'https:' || protocol === 'wss:'
}

/** A connection over which the address can be spoken to: straight, or through the proxy that its kind demands. */
export function openWay(address: URL, network: Network, signal: AbortSignal): Promise<Socket> {
  const proxy = proxyFor(address, network.proxies)
  return proxy
    ? tunnel(proxy, address, network.trust, signal)
    : openTcp(hostOf(address), portOf(address), signal)
}

/** A connection to a host; a name's addresses are tried one after the other. */
export function openTcp(host: string, port: number, signal: AbortSignal): Promise<Socket> {
  const socket = connectTcp({
    host,
    port,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: ADDRESS_ATTEMPT_MS,
  })
  return settled(socket, 'connect', signal)
}

/** Encrypts a connection to where `address` points. Rejects when the other side is not whom it should be. */
export function encrypt(socket: Socket, address: URL, trust: Trust, signal: AbortSignal): Promise<TLSSocket> {
  const host = hostOf(address)
  const secured = connectTls({
    socket,
    host,
    servername: isIP(host) === 0 ? host : '',
    secureContext: trust.context(),
    ALPNProtocols: ['http/1.1'],
  })
  return settled(secured, 'secureConnect', signal)
}

function settled<Kind extends Socket>(socket: Kind, event: string, signal: AbortSignal): Promise<Kind> {
  // Between two owners it must not end the process.
  socket.on('error', () => {})
  return new Promise((resolve, reject) => {
    const finish = (error?: Error) => {
      signal.removeEventListener('abort', onAbort)
      socket.removeListener(event, onReady)
      socket.removeListener('error', finish)
      socket.removeListener('close', onClose)
      if (!error) return resolve(socket)
      socket.destroy()
      reject(error)
    }
    const onReady = () => finish()
    const onClose = () => finish(new Error('the connection was closed'))
    const onAbort = () => finish(new Error('no connection in time'))
    socket.once(event, onReady)
    socket.once('error', finish)
    socket.once('close', onClose)
    signal.addEventListener('abort', onAbort)
    if (signal.aborted) onAbort()
  })
}

/** Asks a proxy for a connection of its own to where `address` points (CONNECT). */
async function tunnel(proxy: ProxyServer, address: URL, trust: Trust, signal: AbortSignal): Promise<Socket> {
  const host = hostOf(address)
  const target = `${isIP(host) === 6 ? `[${host}]` : host}:${portOf(address)}`
  const authorization = proxyAuthorization(proxy)
  const way = await openProxy(proxy, trust, signal)
  const request = httpRequest({
    method: 'CONNECT',
    path: target,
    createConnection: () => way,
    signal,
    headers: { host: target, ...(authorization ? { 'proxy-authorization': authorization } : {}) },
  })
  return new Promise((resolve, reject) => {
    request.once('error', (error) =>
      reject(
        new Error(`the proxy ${shownProxy(proxy)} does not answer: ${describeError(error)}`, {
          cause: error,
        }),
      ),
    )
    request.once('connect', ({ statusCode = 0, statusMessage = '' }, socket: Socket, head: Buffer) => {
      if (statusCode < 200 || statusCode > 299) {
        socket.destroy()
        reject(new ProxyRefusal(proxy, statusCode, statusMessage))
        return
      }
      if (head.length > 0) socket.unshift(head)
      resolve(socket)
    })
    request.end()
  })
}

async function openProxy(proxy: ProxyServer, trust: Trust, signal: AbortSignal): Promise<Socket> {
  const { url } = proxy
  try {
    const way = await openTcp(hostOf(url), portOf(url), signal)
    return isEncrypted(url) ? await encrypt(way, url, trust, signal) : way
  } catch (cause) {
    throw new Error(`the proxy ${shownProxy(proxy)} cannot be reached: ${describeError(cause)}`, { cause })
  }
}
