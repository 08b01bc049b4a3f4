import { Badge, type Tone } from '../ui/badge.tsx'
import { type Key, STATUS_SAYS } from './kinds.ts'

const TONES: Readonly<Record<Key['status'], Tone>> = {
  active: 'ok',
  exhausted: 'idle',
  consumed: 'idle',
  expired: 'idle',
  revoked: 'error',
}

export function KeyStatus({ status }: Pick<Key, 'status'>) {
  return (
    <Badge tone={TONES[status]} title={STATUS_SAYS[status]}>
      {status}
    </Badge>
  )
}
