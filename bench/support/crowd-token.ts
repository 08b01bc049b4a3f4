import { createHash } from 'node:crypto'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'

/** The token of a robot by its number: whoever knows the seed has all tokens, and nobody has to keep a million of them. */
export function crowdToken(seed: string, robot: number): string {
  return mintCheckedToken('robot', () => createHash('sha256').update(`${seed} ${robot}`).digest())
}
