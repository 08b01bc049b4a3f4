import { describe } from '../api/problem.ts'
import type { Freshness } from '../live/feed.ts'
import { Ago } from './times.tsx'

/** Whether what is shown is as it is now; if not, as of when it is, and why. */
export function LiveMark({ live: { isLive, isInTurns, asOf, why } }: { live: Freshness }) {
  return (
    <span class="live" data-live={isLive} data-old={!isLive && asOf !== undefined}>
      <span role="status" title={isInTurns ? 'Many windows are open: they are told in turns.' : undefined}>
        {isLive
          ? isInTurns
            ? 'Live, every few seconds'
            : 'Live'
          : asOf === undefined && why === undefined
            ? 'Connecting…'
            : `Not live${why === undefined ? '' : `: ${describe(why)}`}`}
      </span>
      {!isLive && asOf !== undefined && (
        <span>
          as of <Ago time={new Date(asOf).toISOString()} />
        </span>
      )}
    </span>
  )
}
