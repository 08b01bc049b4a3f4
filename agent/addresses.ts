import { isIP } from 'node:net'
import type { Identity } from './state.ts'

/** Where an agent dials, and what a person should hear about it. */
export interface GatewayAddress {
  readonly url: string
  /** Where the server takes robots, too, whatever else it has: for when nobody is found at `url` any more. */
  readonly fallback?: string
  readonly remarks: readonly string[]
}

/** The robots' door of a control plane: `https://host/base` → `wss://host/base/agent/ws`. */
export function gatewayOf(server: string): string {
  return `${server.replace(/^http/i, 'ws')}/agent/ws`
}

/** Where claims are made. */
export function claimAddressOf(server: string): string {
  return `${server}/agent/enroll`
}

/**
 * The address that enrolment named, unless the person names another server now, or the address cannot be right as seen
 * from this robot.
 */
export function gatewayFor(identity: Identity, server: string, serverIsExplicit: boolean): GatewayAddress {
  if (serverIsExplicit && server !== identity.server)
    return {
      url: gatewayOf(server),
      remarks: [`enrolled with ${identity.server}, connecting to ${server} as asked`],
    }
  const named = URL.canParse(identity.gatewayUrl) ? new URL(identity.gatewayUrl) : undefined
  const own = gatewayOf(identity.server)
  if (!named || !['ws:', 'wss:'].includes(named.protocol))
    return {
      url: own,
      remarks: [`the gateway address from enrolment is not a WebSocket address; using ${own}`],
    }
  const enrolledAt = new URL(identity.server)
  if (isLoopback(named.hostname) && !isLoopback(enrolledAt.hostname))
    return {
      url: own,
      remarks: [
        `the gateway address from enrolment, ${identity.gatewayUrl}, is that machine's own; using ${own}`,
      ],
    }
  if (named.protocol === 'ws:' && enrolledAt.protocol === 'https:')
    return {
      url: identity.gatewayUrl,
      fallback: own,
      remarks: [`the gateway address ${identity.gatewayUrl} is not encrypted, though the server's is`],
    }
  // Whoever keeps a robot from an encrypted address must not get its token by that.
  const isWeaker = named.protocol === 'wss:' && own.startsWith('ws:') && !isLoopback(enrolledAt.hostname)
  return {
    url: identity.gatewayUrl,
    ...(own === identity.gatewayUrl || isWeaker ? {} : { fallback: own }),
    remarks: [],
  }
}

/** A remark when a secret would travel in the clear to another machine. */
export function remarkOnPlainText(server: string): string | undefined {
  const { protocol, hostname } = new URL(server)
  if (protocol === 'https:' || isLoopback(hostname)) return undefined
  return `${server} is not encrypted: whoever can watch the network can read the enrollment key`
}

function isLoopback(hostname: string): boolean {
  const address = hostname.replace(/^\[|\]$/g, '')
  if (isIP(address) === 4) return address.startsWith('127.')
  return address === '::1' || address === 'localhost' || address.endsWith('.localhost')
}
