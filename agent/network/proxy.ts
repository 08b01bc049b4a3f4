import { BlockList, isIP } from 'node:net'

/** Proxies that a robot's network demands, as the variables that every other program reads name them. */
export interface Proxies {
  /** For http and ws. */
  readonly plain: ProxyServer | undefined
  /** For https and wss. */
  readonly secure: ProxyServer | undefined
  /** From NO_PROXY: what is reached without. */
  readonly exceptions: readonly Exception[]
}

export interface ProxyServer {
  /** It may hold a user and a password: never to be shown. */
  readonly url: URL
  /** The variable that names it. */
  readonly variable: string
}

/** True for a host (lower case, an IPv6 address without brackets) and port that no proxy is to be asked for. */
type Exception = (host: string, port: number) => boolean

export const NO_PROXIES: Proxies = { plain: undefined, secure: undefined, exceptions: [] }

const DEFAULT_PORTS: Readonly<Record<string, number>> = { 'http:': 80, 'ws:': 80, 'https:': 443, 'wss:': 443 }

/** Reads HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; in lower case they win, as with curl. No mistake quotes a value. */
export function readProxies(env: Readonly<Record<string, string | undefined>>, mistakes: string[]): Proxies {
  const find = (...names: string[]): ProxyServer | undefined => {
    const variable = names.flatMap((name) => [name.toLowerCase(), name]).find((name) => env[name]?.trim())
    if (variable === undefined) return undefined
    const url = proxyUrl(env[variable]!.trim())
    if (!url)
      mistakes.push(`${variable} must be the address of an http or https proxy, as http://proxy.example:3128`)
    return url && { url, variable }
  }
  return {
    plain: find('HTTP_PROXY', 'ALL_PROXY'),
    secure: find('HTTPS_PROXY', 'ALL_PROXY'),
    exceptions: exceptionsIn(env.no_proxy || env.NO_PROXY || ''),
  }
}

function proxyUrl(text: string): URL | undefined {
  const address = text.includes('://') ? text : `http://${text}`
  if (!URL.canParse(address)) return undefined
  const url = new URL(address)
  return ['http:', 'https:'].includes(url.protocol) && url.hostname !== '' ? url : undefined
}

/** The proxy to ask for an http, https, ws or wss address; undefined: it is dialled itself. A robot's own host always is. */
export function proxyFor(address: URL, proxies: Proxies): ProxyServer | undefined {
  const proxy = ['https:', 'wss:'].includes(address.protocol) ? proxies.secure : proxies.plain
  if (!proxy) return undefined
  const host = hostOf(address).toLowerCase().replace(/\.$/, '')
  const port = portOf(address)
  if (isLoopback(host) || proxies.exceptions.some((isException) => isException(host, port))) return undefined
  return proxy
}

/** The host of an address as sockets take it: an IPv6 address without brackets. */
export function hostOf({ hostname }: URL): string {
  return hostname.replace(/^\[|\]$/g, '')
}

export function portOf({ port, protocol }: URL): number {
  return port === '' ? (DEFAULT_PORTS[protocol] ?? 0) : Number(port)
}

/** How a proxy may be named to anybody: without the user and the password. */
export function shownProxy({ url }: ProxyServer): string {
  return `${url.protocol}//${url.host}`
}

/** The value of `Proxy-Authorization`, where the proxy's address names a user. */
export function proxyAuthorization({ url }: ProxyServer): string | undefined {
  if (url.username === '' && url.password === '') return undefined
  const pair = `${unescaped(url.username)}:${unescaped(url.password)}`
  return `Basic ${Buffer.from(pair).toString('base64')}`
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/**
 * `example.com` (also `.example.com` and `*.example.com`) stands for itself and all below it, `192.0.2.7` and
 * `fd00::7` for themselves, `10.0.0.0/8` for a network, `*` for everything; each may end in `:port`.
 */
function exceptionsIn(text: string): Exception[] {
  return text
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .map(exceptionIn)
}

function exceptionIn(entry: string): Exception {
  if (entry === '*') return () => true
  const withPort = isIP(entry) === 6 ? undefined : /^(.+):(\d{1,5})$/.exec(entry)
  const name = (withPort?.[1] ?? entry).replace(/^\[|\]$/g, '')
  const isWanted = hostRule(name)
  const onlyPort = withPort ? Number(withPort[2]) : undefined
  return (host, port) => (onlyPort === undefined || onlyPort === port) && isWanted(host)
}

function hostRule(name: string): (host: string) => boolean {
  const range = addressRange(name)
  if (range) return (host) => isIP(host) !== 0 && range.check(host, isIP(host) === 6 ? 'ipv6' : 'ipv4')
  const suffix = name.replace(/^\*?\./, '').replace(/\.$/, '')
  return (host) => host === suffix || host.endsWith(`.${suffix}`)
}

/** An address, or a network as `10.0.0.0/8`; undefined for a name. */
function addressRange(text: string): BlockList | undefined {
  const [address = '', bits, ...more] = text.split('/')
  const version = isIP(address)
  if (version === 0 || more.length > 0) return undefined
  const longest = version === 6 ? 128 : 32
  const prefix = bits === undefined ? longest : /^\d{1,3}$/.test(bits) ? Number(bits) : Number.NaN
  if (!(prefix <= longest)) return undefined
  const range = new BlockList()
  range.addSubnet(address, prefix, version === 6 ? 'ipv6' : 'ipv4')
  return range
}

function isLoopback(host: string): boolean {
  if (isIP(host) === 4) return host.startsWith('127.')
  return host === '::1' || host === 'localhost' || host.endsWith('.localhost')
}
