import type { Span } from './ranges.ts'
import { type History, healthShares, healthSpans } from './series.ts'

const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' })

/** Never all of it where there was something else, and never none where there was some. */
function shareText(share: number): string {
  if (share < 0.01) return '< 1 %'
  return share < 1 && share > 0.99 ? '> 99 %' : `${Math.round(share * 100)} %`
}

/** How the robot was over time: the worse, the higher; nothing where it was silent. */
export function HealthStrip({ history, silence, span }: { history: History; silence: number; span: Span }) {
  const spans = healthSpans(history, silence, span)
  const shares = healthShares(history).map(({ health, share }) => `${health} ${shareText(share)}`)
  const totals = shares.length > 0 ? `${shares.join(' · ')} of its heartbeats` : 'nothing in this time'
  const share = (ms: number) => `${(100 * ms) / (span.to - span.from)}%`
  return (
    <figure class="chart">
      <figcaption class="row apart">
        <strong>Health</strong>
        <span class="numbers small soft">{totals}</span>
      </figcaption>
      <div class="health-strip" role="img" aria-label={`Health: ${totals}`}>
        {spans.map(({ from, to, health }) => (
          <span
            key={from}
            data-health={health}
            title={`${health}, ${MOMENT.formatRange(from, to)}`}
            style={{ left: share(from - span.from), width: share(to - from) }}
          />
        ))}
      </div>
    </figure>
  )
}
