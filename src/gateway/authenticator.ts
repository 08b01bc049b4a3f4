import type { Database } from '../db/database.ts'
import { findTokenHolders, type TokenHolder } from '../db/sessions.ts'
import { BeaconError } from '../errors.ts'
import { Grouping } from '../grouping.ts'
import { bearerToken, hashToken, isCheckedToken } from '../protocol/tokens.ts'

/** Who a socket belongs to. */
export interface AuthenticatedRobot {
  readonly robotId: string
  /** SHA-256 of the token in hex. */
  readonly tokenHash: string
  /** It is the next token: a session opened with it ends the one before. */
  readonly isNext: boolean
}

const MAX_GROUP = 500
const MAX_WAITING = 5_000

/** The robot token in an `Authorization` header; throws a BeaconError when there is none, or noise, or one mistyped. */
export function robotToken(authorization: string | undefined): string {
  const token = bearerToken(authorization)
  if (token === undefined)
    throw new BeaconError('credentials_required', 'a robot token is needed: Authorization: Bearer rf_robot_…')
  // Form and checksum cost no database work.
  if (!isCheckedToken('robot', token)) throw new BeaconError('invalid_token', 'this is not a robot token')
  return token
}

/** Tells robots by their tokens. Look-ups of the same moment share a statement, and no answer is kept: none can be old. */
export class Authenticator {
  readonly #lookUp: Grouping<string, TokenHolder | undefined>

  constructor(database: Database) {
    this.#lookUp = new Grouping({
      maxGroup: MAX_GROUP,
      maxWaiting: MAX_WAITING,
      run: (hashes) => findTokenHolders(database, hashes),
    })
  }

  get waiting(): number {
    return this.#lookUp.waiting
  }

  /** Takes a token as `robotToken` gives it; throws a BeaconError that says why it does not open a session. */
  async authenticate(token: string): Promise<AuthenticatedRobot> {
    const tokenHash = hashToken(token).toString('hex')
    const holder = await this.#lookUp.add(tokenHash)
    if (!holder) throw new BeaconError('invalid_token', 'no robot has this token')
    if (holder.revoked)
      throw new BeaconError('token_revoked', 'this robot token was revoked; enrol the robot again')
    if (holder.retired) throw new BeaconError('robot_retired', 'this robot was retired')
    return { robotId: holder.robotId, tokenHash, isNext: holder.isNext }
  }
}
