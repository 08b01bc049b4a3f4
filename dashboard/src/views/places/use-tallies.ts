import { useEffect, useState } from 'preact/hooks'
import { type Freshness, follow, NOT_YET } from '../../live/feed.ts'
import { Tallies, type Tally } from './tallies.ts'

/** How many robots are in which fleet, as of now; undefined until it is known. */
export function useTallies(): { readonly tallies: ReadonlyMap<string, Tally> | undefined; live: Freshness } {
  const [tallies, setTallies] = useState<ReadonlyMap<string, Tally>>()
  const [live, setLive] = useState(NOT_YET)
  useEffect(() => {
    const robots = new Tallies()
    return follow(
      { detail: 'status' },
      {
        onSnapshot: (all) => {
          robots.clear()
          robots.take(all)
          setTallies(robots.byFleet())
        },
        onDelta: (changed, removed) => {
          robots.take(changed, removed)
          setTallies(robots.byFleet())
        },
        onLive: setLive,
      },
    )
  }, [])
  return { tallies, live }
}
