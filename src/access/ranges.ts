import { BlockList, isIP } from 'node:net'
import { canonicalAddress } from '../addresses.ts'

interface Range {
  readonly network: string
  readonly bits: number
  readonly family: 'ipv4' | 'ipv6'
}

/** IPv4 that is written as IPv4-mapped IPv6 is IPv4. */
function rangeOf(cidr: string): Range {
  const [written = '', bits] = cidr.split('/')
  const network = canonicalAddress(written) ?? written
  const width = isIP(written) === 4 ? 32 : 128
  const given = bits === undefined ? width : Number(bits)
  if (isIP(network) === 6) return { network, bits: given, family: 'ipv6' }
  // Wider than all of IPv4 when it is mapped: of no use as IPv4.
  if (width === 128 && given < 96) return { network: written, bits: given, family: 'ipv6' }
  return { network, bits: width === 128 ? given - 96 : given, family: 'ipv4' }
}

function contains(outer: Range, inner: Range): boolean {
  if (outer.family !== inner.family || outer.bits > inner.bits) return false
  const list = new BlockList()
  list.addSubnet(outer.network, outer.bits, outer.family)
  return list.check(inner.network, inner.family)
}

/** True when each of the `inner` ranges lies in one of the `outer` ones. No ranges at all means every address. */
export function rangesWithin(inner: readonly string[], outer: readonly string[]): boolean {
  if (outer.length === 0) return true
  if (inner.length === 0) return false
  const outers = outer.map(rangeOf)
  return inner.map(rangeOf).every((range) => outers.some((candidate) => contains(candidate, range)))
}
