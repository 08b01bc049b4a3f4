import { AgentExit, EXIT } from './exit.ts'
import type { Log } from './log.ts'
import type { Machine } from './machine.ts'
import type { Identity } from './state.ts'
import type { Store } from './store.ts'

/**
 * Answers with the identity when it belongs to this machine; one that is bound to none yet is bound to this one. On
 * another machine it throws AgentExit, unless it `adopts` identities: then it is bound anew. Machines without an id of
 * their own are believed.
 */
export function demandOwnMachine(
  identity: Identity,
  machine: Pick<Machine, 'machineId' | 'boardId'>,
  adopts: boolean,
  { log, store }: { readonly log: Log; readonly store: Pick<Store, 'keepIdentity'> },
): Identity {
  const { boardId, machineId } = machine
  if (boardId === undefined || identity.boundTo === boardId) return identity
  if (identity.boundTo === undefined) {
    if (identity.machineId !== undefined && identity.machineId !== machineId)
      log.warn('this identity was made on another machine or in another place; only one of the two may run')
  } else if (!adopts)
    throw new AgentExit(
      EXIT.conflict,
      'this identity is bound to another machine: the disk it is on was copied, or moved here. To make this machine a ' +
        'robot of its own, run "beacon agent forget" and enrol it. If the disk was moved for good and nobody runs the ' +
        'original, start the agent once with --adopt',
    )
  else log.warn('this identity was bound to another machine, and is bound to this one from now on (--adopt)')
  const bound = { ...identity, boundTo: boardId, machineId: machineId ?? identity.machineId }
  try {
    store.keepIdentity(bound)
  } catch (error) {
    if (!(error instanceof AgentExit)) throw error
    // It is believed now, and will be next time: a disk that is full is no reason to stop.
    log.warn(`${error.message}; this identity is bound to this machine once it can be written`)
  }
  return bound
}
