import { join } from 'node:path'
import type { Log } from '../log.ts'
import type { Places } from '../places.ts'
import type { Clock } from '../runtime.ts'
import { systemDisk } from './disk.ts'
import { labelFor } from './kept-text.ts'
import { Ring } from './ring.ts'

/** Folder of what waits for the server. */
export function spoolFolder(places: Places): string {
  return join(places.stateDir, `${places.stem}.spool`)
}

/** The heartbeats of one robot that wait on disk; those of another are deleted. */
export function openRing(from: {
  readonly places: Places
  readonly clock: Clock
  readonly log: Log
  /** The robot's id. */
  readonly owner: string
  readonly maxBytes: number
}): Ring {
  const { places, clock, log, owner, maxBytes } = from
  const ring = new Ring({
    disk: systemDisk,
    clock,
    folder: spoolFolder(places),
    name: 'heartbeats',
    owner,
    maxBytes,
    label: labelFor,
    onTrouble: (sentence) => log.warn(sentence),
  })
  if (ring.damaged > 0)
    log.warn(`${ring.damaged} lines in ${spoolFolder(places)} were damaged and are left out`)
  if (ring.size > 0) log.info(`${ring.size} heartbeats of before wait for the server`)
  return ring
}
