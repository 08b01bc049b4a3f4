import type { ComponentChildren } from 'preact'
import type { Robot } from '../api/types.ts'

export type Tone = 'ok' | 'warn' | 'error' | 'idle' | 'wait'

/** A word with a colour and a shape, so that it does not take colour to tell. */
export function Badge({
  tone,
  children,
  title,
}: {
  tone: Tone
  children: ComponentChildren
  title?: string
}) {
  return (
    <span class="badge" data-tone={tone} title={title}>
      <span class="mark" aria-hidden="true" />
      <span class="text">{children}</span>
    </span>
  )
}

export const CONNECTION_TONE: Readonly<Record<Robot['connection'], Tone>> = {
  online: 'ok',
  stale: 'warn',
  offline: 'error',
  unseen: 'idle',
}

export const HEALTH_TONE: Readonly<Record<Robot['health'], Tone>> = {
  ok: 'ok',
  warn: 'warn',
  error: 'error',
  unknown: 'idle',
}

const LIFECYCLE_TONE: Readonly<Record<Robot['lifecycle'], Tone>> = {
  pending: 'wait',
  active: 'ok',
  maintenance: 'warn',
  retired: 'idle',
}

export function Connection({ robot }: { robot: Pick<Robot, 'connection' | 'connection_reason'> }) {
  return (
    <Badge tone={CONNECTION_TONE[robot.connection]} title={robot.connection_reason.replaceAll('_', ' ')}>
      {robot.connection}
    </Badge>
  )
}

export function Health({ health }: { health: Robot['health'] }) {
  return <Badge tone={HEALTH_TONE[health]}>{health}</Badge>
}

export function Lifecycle({ lifecycle }: { lifecycle: Robot['lifecycle'] }) {
  return <Badge tone={LIFECYCLE_TONE[lifecycle]}>{lifecycle}</Badge>
}
