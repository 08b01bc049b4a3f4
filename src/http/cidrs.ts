import { isIP } from 'node:net'
import { z } from 'zod'

const MAX_CIDRS = 64

/** One address, or a range of them. */
export const cidr = z.string().refine((text) => {
  const found = /^([0-9A-Fa-f:.]+)(?:\/(0|[1-9]\d{0,2}))?$/.exec(text)
  const family = isIP(found?.[1] ?? '')
  return family !== 0 && Number(found?.[2] ?? 0) <= (family === 4 ? 32 : 128)
}, 'must be an address or a CIDR range')

/** Addresses and ranges that something may be used from; none: from anywhere. */
export const cidrs = z.array(cidr).max(MAX_CIDRS)
