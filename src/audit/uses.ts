import type { AuditActor, AuditEntry } from '../db/audit.ts'
import { newId } from '../ids.ts'
import type { TokenUse } from './audit.ts'
import { minuteOf } from './minutes.ts'

const MAX_TOKENS = 10_000
/** Addresses that are named in one line. */
const MAX_ADDRESSES = 20

interface Use {
  readonly minute: number
  readonly actor: AuditActor
  readonly first: TokenUse
  last: TokenUse
  count: number
  readonly addresses: Map<string, number>
  /** Uses from addresses that are not among the named. */
  elsewhere: number
}

/** Counts the uses of each token, and of each thing that it is used for, in each minute. Bounded: what does not fit is only counted. */
export class Uses {
  readonly #uses = new Map<string, Use>()
  #missed = 0

  add(use: TokenUse): void {
    const minute = minuteOf(use.at)
    const key = `${minute} ${use.actor.kind} ${use.actor.id} ${use.deed?.action} ${use.deed?.target.id}`
    const known = this.#uses.get(key)
    if (known) {
      known.count += 1
      if (use.at >= known.last.at) known.last = use
      countAddress(known, use.address)
      return
    }
    if (this.#uses.size >= MAX_TOKENS) {
      this.#missed += 1
      return
    }
    const { actor, address } = use
    const addresses = new Map([[address, 1]])
    this.#uses.set(key, { minute, actor, first: use, last: use, count: 1, addresses, elsewhere: 0 })
  }

  /** Takes out the lines of all minutes that are over by `now`. */
  takeEnded(now: number): AuditEntry[] {
    const minute = minuteOf(now)
    const entries: AuditEntry[] = []
    for (const [key, use] of this.#uses) {
      if (use.minute >= minute) continue
      this.#uses.delete(key)
      entries.push(entryOf(use))
    }
    return entries
  }

  /** Uses that did not fit since the last time this was asked. */
  takeMissed(): number {
    const missed = this.#missed
    this.#missed = 0
    return missed
  }
}

function countAddress(use: Use, address: string): void {
  const times = use.addresses.get(address)
  if (times !== undefined || use.addresses.size < MAX_ADDRESSES) use.addresses.set(address, (times ?? 0) + 1)
  else use.elsewhere += 1
}

/** What the line of a use is called, by who it was. */
const ACTIONS: Readonly<Partial<Record<AuditActor['kind'], string>>> = {
  personal_token: 'access_token.used',
  fleet_token: 'access_token.used',
  claim_credential: 'claim_credential.used',
  robot: 'robot_token.used',
  user: 'session.used',
}

function entryOf({ actor, first, last, count, addresses, elsewhere }: Use): AuditEntry {
  const action = last.deed?.action ?? ACTIONS[actor.kind] ?? 'token.used'
  return {
    id: newId(),
    at: new Date(last.at),
    action,
    outcome: 'ok',
    actor,
    target: last.deed?.target ?? targetOf(action, actor),
    siteId: last.siteId ?? null,
    fleetId: last.fleetId ?? null,
    requestId: null,
    address: last.address,
    data: {
      count,
      first: new Date(first.at).toISOString(),
      last: new Date(last.at).toISOString(),
      addresses: Object.fromEntries(addresses),
      ...(elsewhere > 0 ? { from_other_addresses: elsewhere } : {}),
      ...(last.user ? { user_id: last.user.id, user_name: last.user.name } : {}),
    },
  }
}

/** So that looking for what happened to a token finds its uses, too. */
function targetOf(action: string, { id, name }: AuditActor): AuditEntry['target'] {
  return action === 'access_token.used' && id !== null ? { kind: 'access_token', id, name } : null
}
