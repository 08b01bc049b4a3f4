import type { IncomingMessage } from 'node:http'
import proxyAddress from '@fastify/proxy-addr'
import { canonicalAddress, proxyRule } from '../addresses.ts'
import { BeaconError } from '../errors.ts'
import type { UpgradeRequest } from './transport.ts'

/** Headers of a request as node:http joins them, their names in lower case. */
export interface HandshakeHeaders {
  readonly host?: string | undefined
  readonly authorization?: string | undefined
  readonly upgrade?: string | undefined
  readonly 'content-length'?: string | undefined
  readonly 'transfer-encoding'?: string | undefined
  readonly 'sec-websocket-key'?: string | undefined
  readonly 'sec-websocket-version'?: string | string[] | undefined
  readonly 'sec-websocket-protocol'?: string | undefined
}

const KEY = /^[+/0-9A-Za-z]{22}==$/
const VERSION = '13'
/** A token of HTTP, as names of subprotocols are. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

/** True when this is the one kind of upgrade that is taken. For http.Server's shouldUpgradeCallback, too. */
export function isWebSocketUpgrade(request: {
  readonly method?: string | undefined
  readonly headers: Pick<HandshakeHeaders, 'upgrade'>
}): boolean {
  return request.method === 'GET' && request.headers.upgrade?.toLowerCase() === 'websocket'
}

/** Why an upgrade cannot be taken whoever asks, or undefined. Looked at before anybody is asked who it is. */
export function handshakeFault(
  path: string | undefined,
  expectedPath: string,
  headers: HandshakeHeaders,
): BeaconError | undefined {
  if (path !== expectedPath) return new BeaconError('not_found', 'there is no WebSocket at this address')
  if (headers.host === undefined) return new BeaconError('invalid_request', 'HTTP/1.1 needs a Host header')
  // What one took for its body, another would take for frames.
  if (hasBody(headers)) return new BeaconError('invalid_request', 'an upgrade request has no body')
  if (!KEY.test(headers['sec-websocket-key'] ?? ''))
    return new BeaconError('invalid_request', 'Sec-WebSocket-Key is missing or not valid')
  if (headers['sec-websocket-version'] !== VERSION)
    return new BeaconError('invalid_request', `Sec-WebSocket-Version has to be ${VERSION}`)
  const offered = subprotocolsIn(headers)
  if (!offered.every((name) => TOKEN.test(name)) || new Set(offered).size < offered.length)
    return new BeaconError('invalid_request', 'Sec-WebSocket-Protocol is not valid')
  return undefined
}

/** True when the request brings a body along. */
export function hasBody(headers: Pick<HandshakeHeaders, 'content-length' | 'transfer-encoding'>): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

function subprotocolsIn(headers: HandshakeHeaders): string[] {
  return headers['sec-websocket-protocol']?.split(',').map((name) => name.trim()) ?? []
}

/** What the gateway is asked about an upgrade. */
export function upgradeRequest(headers: HandshakeHeaders, remoteAddress: string): UpgradeRequest {
  return {
    authorization: headers.authorization,
    subprotocols: subprotocolsIn(headers),
    remoteAddress,
  }
}

/** Answers who calls: the peer, or whom trusted proxies say they heard. */
export function callerRule(
  trustedProxies: readonly string[],
): (peer: string | undefined, forwardedFor: string | string[] | undefined) => string {
  const trusts = proxyRule(trustedProxies)
  return (peer, forwardedFor) => {
    const address: string | undefined =
      trustedProxies.length === 0 || forwardedFor === undefined
        ? peer
        : // All that it reads of a request.
          proxyAddress(
            {
              headers: { 'x-forwarded-for': forwardedFor },
              socket: { remoteAddress: peer },
            } as unknown as IncomingMessage,
            trusts,
          )
    // A connection that is gone has none.
    return canonicalAddress(address ?? '') ?? address ?? ''
  }
}
