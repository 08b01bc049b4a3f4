import { BlockList, isIP, SocketAddress } from 'node:net'

const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/

/** As some proxies write whom they heard: with the port, or IPv6 in brackets. */
const DRESSED = /^(?:\[([^\]]+)\](?::\d{1,5})?|([\d.]+):\d{1,5})$/

/** An address in its one canonical form: IPv4-mapped IPv6 as IPv4, no zone, no port. Undefined when it is no address. */
export function canonicalAddress(text: string): string | undefined {
  const dressed = DRESSED.exec(text)
  const address = (dressed?.[1] ?? dressed?.[2] ?? text).split('%', 1)[0]!
  const family = isIP(address)
  if (family === 0) return undefined
  if (family === 4) return address
  const canonical = new SocketAddress({ address, family: 'ipv6' }).address
  return MAPPED.exec(canonical)?.[1] ?? canonical
}

/** What an address is counted under: IPv6 by its /64, for one host owns all of it. */
export function addressGroup(text: string): string {
  const address = canonicalAddress(text)
  if (address === undefined || !address.includes(':')) return address ?? 'unknown'
  const [head = '', tail] = address.split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? 0 : 8 - before.length - after.length
  return `${[...before, ...Array<string>(zeros).fill('0'), ...after].slice(0, 4).join(':')}::/64`
}

/** Answers for one list of CIDR ranges whether an address lies in it. An empty list admits every address. */
export function addressRule(cidrs: readonly string[]): (address: string) => boolean {
  if (cidrs.length === 0) return () => true
  const list = new BlockList()
  for (const cidr of cidrs) {
    const [network = '', bits] = cidr.split('/')
    const family = isIP(network) === 4 ? 'ipv4' : 'ipv6'
    list.addSubnet(network, bits === undefined ? (family === 'ipv4' ? 32 : 128) : Number(bits), family)
  }
  return (text) => {
    const address = canonicalAddress(text)
    if (address === undefined) return false
    if (address.includes(':')) return list.check(address, 'ipv6')
    // A range may itself be written as IPv4-mapped IPv6.
    return list.check(address, 'ipv4') || list.check(`::ffff:${address}`, 'ipv6')
  }
}

/** Answers whether an address is one of the proxies whose word on who called counts: none is, of an empty list. */
export function proxyRule(cidrs: readonly string[]): (address: string | undefined) => boolean {
  const lies = cidrs.length === 0 ? () => false : addressRule(cidrs)
  // A connection that is gone has no address.
  return (address) => address !== undefined && lies(address)
}
