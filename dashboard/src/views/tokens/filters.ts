import { addressWith, partsOf } from '../../ui/query.ts'

/** Whose tokens are shown and how, as it stands in the address. */
export interface TokenFilter {
  readonly of?: string
  readonly fleet?: string
  readonly user?: string
  readonly status?: string
  readonly sort?: string
}

const NAMES = ['of', 'fleet', 'user', 'status', 'sort'] as const

export const tokenFilterOf = (url: string): TokenFilter => partsOf(url, NAMES)

export const tokenAddressOf = (filter: TokenFilter): string =>
  addressWith('/tokens', filter as Record<string, string | undefined>)

export const NEWEST_FIRST = '-created_at'

/** What the server is asked for: those that work, unless others are asked for. */
export function tokenQueryOf({ status = 'active', sort = NEWEST_FIRST }: TokenFilter): {
  readonly status?: string
  readonly sort: string
} {
  return status === 'any' ? { sort } : { status, sort }
}
