import { chmodSync, readFileSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { EmbeddedPostgresError } from './embedded-error.ts'

/** The unprivileged system user that PostgreSQL runs as when we are root, for it refuses to run as root itself. */
export interface ServerUser {
  readonly name: string
  readonly uid: number
  readonly gid: number
}

const CANDIDATES = ['postgres', '_postgres', 'nobody']

/** Whom to run PostgreSQL as; undefined means as ourselves. */
export function findServerUser(): ServerUser | undefined {
  if (process.getuid?.() !== 0) return undefined
  const users = new Map<string, ServerUser>()
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const [name = '', , uid, gid] = line.split(':')
    if (Number(uid) > 0 && Number(gid) > 0) users.set(name, { name, uid: Number(uid), gid: Number(gid) })
  }
  for (const name of CANDIDATES) {
    const user = users.get(name)
    if (user) return user
  }
  throw new EmbeddedPostgresError(
    'PostgreSQL refuses to run as root, and this machine has neither a user "postgres" nor "nobody": ' +
      'start the server as another user, or set BEACON_DATABASE_URL',
  )
}

function mayPass(folder: string, user: ServerUser): boolean {
  const { uid, gid, mode } = statSync(folder)
  if (uid === user.uid) return (mode & 0o100) !== 0
  if (gid === user.gid) return (mode & 0o010) !== 0
  return (mode & 0o001) !== 0
}

/** Throws unless the user can pass through every folder above this one. */
export function requirePassage(folder: string, user: ServerUser): void {
  for (let parent = dirname(folder); ; parent = dirname(parent)) {
    if (!mayPass(parent, user))
      throw new EmbeddedPostgresError(
        `PostgreSQL runs as the user "${user.name}", who cannot pass through ${parent} to reach ${folder}: ` +
          `choose another BEACON_DATA_DIR (for example /var/lib/beacon-server), allow it with "chmod o+x ${parent}", ` +
          'or start the server as another user than root',
      )
    if (parent === dirname(parent)) return
  }
}

/** Lets others pass through our data folder, without seeing what is in it. */
export function allowPassage(folder: string): void {
  const mode = statSync(folder).mode & 0o777
  if ((mode & 0o011) !== 0o011) chmodSync(folder, mode | 0o011)
}
