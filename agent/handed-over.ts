import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { hashToken } from '../src/protocol/tokens.ts'
import type { CredentialSource, Given } from './credential.ts'
import type { Log } from './log.ts'
import type { Places } from './places.ts'
import type { Identity } from './state.ts'
import { describeError } from './text.ts'

/** The credential that `install` leaves beside the state for the agent to enrol with; used up, it is removed. */
export interface HandedOver {
  readonly key: string
  readonly setupToken: string
}

export function handedOverAt({ stateDir, stem }: Pick<Places, 'stateDir' | 'stem'>): HandedOver {
  return {
    key: join(stateDir, `${stem}.enrollment-key`),
    setupToken: join(stateDir, `${stem}.setup-token`),
  }
}

/** The names that systemd's credentials for the agent have. */
const SYSTEM_CREDENTIALS = { key: 'beacon.enrollment-key', setupToken: 'beacon.setup-token' }

/** The credentials that lie ready where nobody named a place: handed over by `install`, then those of systemd. */
export function credentialsLeft(places: Places, systemCredentials: string | undefined): CredentialSource[] {
  const handed = handedOverAt(places)
  const folders = systemCredentials
    ? [
        {
          key: join(systemCredentials, SYSTEM_CREDENTIALS.key),
          setupToken: join(systemCredentials, SYSTEM_CREDENTIALS.setupToken),
        },
      ]
    : []
  // A setup token is the younger wish of the two: an operator made it for this one robot.
  return [handed, ...folders].flatMap(({ key, setupToken }) => [
    { setupTokenFile: there(setupToken) },
    { keyFile: there(key) },
  ])
}

/** Undefined when it is not there or holds nothing: of what lies ready by itself, that is no mistake. */
function there(path: string): Given | undefined {
  try {
    if (readFileSync(path, 'utf8').trim() === '') return undefined
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
  }
  return { value: path, label: path }
}

/** Removes what was handed over, once it is what the robot enrolled with. */
export function removeUsedUp(places: Places, identity: Identity, log: Log): void {
  const { key, setupToken } = handedOverAt(places)
  for (const path of [key, setupToken]) {
    const content = contentOf(path)
    if (!content || hashToken(content).toString('hex') !== identity.credentialHash) continue
    try {
      rmSync(path, { force: true })
      log.info(`removed ${path}: this robot is enrolled and needs it no more`)
    } catch (error) {
      log.warn(`cannot remove ${path}, which this robot needs no more: ${describeError(error)}`)
    }
  }
}

function contentOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim() || undefined
  } catch {
    return undefined
  }
}
