import type { AgentStatus } from '../status.ts'
import type { Condition } from './notify.ts'

/** How an agent with this status does, for the service manager. */
export function conditionOf(status: AgentStatus, isWell: boolean): Condition {
  const { link } = status
  const isPending = link?.connection === 'connected' && link.lifecycle === 'pending'
  return {
    sentence: sentenceOf(status),
    hasArrived: isPending || (link !== undefined && link.last_ack_at !== null),
    isWell,
  }
}

/** Without what changes all the time: each new sentence costs a program. */
function sentenceOf({ enrolled, name, link }: AgentStatus): string {
  if (!enrolled) return 'Enrolling this robot'
  switch (link?.connection) {
    case 'connected': {
      if (link.lifecycle === 'pending') return `Connected; an operator has yet to approve ${name}`
      const late = link.last_ack_at === null ? '; nothing was acknowledged yet' : ''
      return `Connected as ${name}, session ${link.session_no}${late}`
    }
    case 'connecting':
      return link.last_error ? `Connecting as ${name} again: ${link.last_error}` : `Connecting as ${name}`
    case 'waiting':
      return `Not connected: ${link.last_error ?? 'about to connect'}`
    default:
      return `Enrolling ${name} anew`
  }
}
