import type { Kind } from '../../keys/kinds.ts'
import { addressWith, partsOf } from '../../ui/query.ts'

/** What the view of keys is about, as it stands in the address. */
export interface KeysAddress {
  readonly kind: Kind
  /** One of them; otherwise the list, narrowed by the rest. */
  readonly id?: string | undefined
  readonly isNew?: boolean
  readonly status?: string | undefined
  readonly site?: string | undefined
  readonly fleet?: string | undefined
  readonly sort?: string | undefined
}

export function keysAddressOf(url: string): KeysAddress {
  const { kind, new: isNew, ...rest } = partsOf(url, ['kind', 'id', 'new', 'status', 'site', 'fleet', 'sort'])
  return {
    kind: kind === 'provisioning' ? 'provisioning' : 'enrollment',
    ...(isNew === 'true' ? { isNew: true } : {}),
    ...rest,
  }
}

export function addressOf({ kind, isNew, ...rest }: KeysAddress): string {
  return addressWith('/keys', {
    kind: kind === 'provisioning' ? kind : undefined,
    new: isNew ? 'true' : undefined,
    ...rest,
  })
}
