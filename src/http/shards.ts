import { z } from 'zod'

/** A scrape of so many robots takes some tenths of a second and some megabytes. */
const ROBOTS_PER_SHARD = 2_500

const MAX_SHARDS = 1_024

export const shardCount = z.coerce.number().int().min(1).max(MAX_SHARDS)

/** Into how many shards so many robots are split: a power of two, so that it seldom changes. */
export function shardsFor(robots: number): number {
  let shards = 1
  while (shards < MAX_SHARDS && shards * ROBOTS_PER_SHARD < robots) shards *= 2
  return shards
}
