import type { Config } from '../config.ts'
import type { HttpParts, Origin } from './parts.ts'

const HOST = /^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?$/

/**
 * Where callers reach this server: the configured address, or the one that this request came to. A Host header of
 * any other form than a host's is not repeated, for the address ends up in commands that people paste.
 */
export function publicUrl(config: Pick<Config, 'publicUrl'>, origin: Origin): string {
  if (config.publicUrl !== undefined) return config.publicUrl
  const host = HOST.test(origin.host) ? origin.host : 'localhost'
  return `${origin.protocol === 'https' ? 'https' : 'http'}://${host}`
}

/** True when callers come over HTTPS, to this server itself or to the proxy before it. */
export function isOverHttps({
  publicUrl,
  tls,
}: Pick<Config, 'publicUrl'> & Partial<Pick<Config, 'tls'>>): boolean {
  return publicUrl === undefined ? tls !== undefined : publicUrl.startsWith('https:')
}

/**
 * Where robots open their WebSocket. With a configured address that one counts, whatever port the gateway has: whoever
 * stands before the server sends robots there.
 */
export function gatewayUrl(
  { config, gatewayPath, gatewayPort }: Pick<HttpParts, 'config' | 'gatewayPath' | 'gatewayPort'>,
  origin: Origin,
): string {
  const base = publicUrl(config, origin).replace(/^http/, 'ws')
  const port = config.publicUrl === undefined ? gatewayPort() : undefined
  return `${port === undefined ? base : `${base.replace(/:\d+$/, '')}:${port}`}${gatewayPath}`
}

/** A word as a POSIX shell reads it back. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_./:@=+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}
