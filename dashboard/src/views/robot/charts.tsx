import { useMemo, useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import type { HeartbeatSummary, Page, Robot } from '../../api/types.ts'
import { Button } from '../../ui/button.tsx'
import { now } from '../../ui/clock.ts'
import { useLoaded } from '../../ui/loaded.ts'
import { Empty, Failure, Loading } from '../../ui/states.tsx'
import { Chart } from './chart.tsx'
import { chosenOf, formatNumber, inOrder, kindOf, MOST_CHOSEN, numbersIn, usualOf } from './fields.ts'
import { HealthStrip } from './health-strip.tsx'
import {
  fitted,
  isLive,
  LASTS,
  type Range,
  rangeOf,
  type Span,
  setRange,
  shifted,
  stepFor,
  stepText,
  zoomed,
} from './ranges.ts'
import { type Bucket, type History, rowsOf, silenceMs } from './series.ts'
import { useHistory } from './use-history.ts'
import { isWorthSaying } from './worth-saying.ts'

const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' })

interface Props {
  readonly robot: Robot
  readonly heartbeatMs: number
  /** What the address says after the question mark, and how to change it. */
  readonly search: URLSearchParams
  readonly onSearch: (change: (search: URLSearchParams) => void) => void
}

/** Any number of the heartbeats over any time; which and when stands in the address. */
export function Charts({ robot, heartbeatMs, search, onSearch }: Props) {
  const range = rangeOf(search)
  const said = useMemo(
    () => (robot.heartbeat ? [...numbersIn(robot.heartbeat).keys()] : []),
    [robot.heartbeat],
  )
  const chosen = chosenOf(search)
  const saidKey = said.join()
  const fields = useMemo(() => chosen ?? usualOf(inOrder(said)), [chosen?.join(), saidKey])
  const { history, span, isLoading, error, reload } = useHistory(robot, range, fields, heartbeatMs)

  const go = (next: Range) => onSearch((search) => setRange(search, next))
  const look = (next: Span) => go(fitted(next, now.peek()))
  const stepMs = history?.stepMs ?? stepFor(span, heartbeatMs)
  const silence = silenceMs(stepMs, heartbeatMs)

  return (
    <section class="panel charts" aria-labelledby="charts-title" aria-busy={isLoading}>
      <div class="row apart">
        <h2 id="charts-title">History</h2>
        <span class="small soft">
          Times in {ZONE} · one step is {stepText(stepMs)}
        </span>
      </div>
      <div class="row apart">
        <fieldset class="ranges">
          <legend class="visually-hidden">How far back</legend>
          {LASTS.map((each) => (
            <button
              key={each.last}
              type="button"
              class="choice-button"
              aria-pressed={isLive(range) && range.last === each.last}
              onClick={() => go(each)}
            >
              {each.name}
            </button>
          ))}
        </fieldset>
        <div class="row">
          <Button size="small" onClick={() => look(shifted(span, -0.5, now.peek()))}>
            Earlier
          </Button>
          <Button size="small" disabled={isLive(range)} onClick={() => look(shifted(span, 0.5, now.peek()))}>
            Later
          </Button>
          <Button size="small" onClick={() => look(zoomed(span, 0.5, now.peek()))}>
            Zoom in
          </Button>
          <Button size="small" onClick={() => look(zoomed(span, 2, now.peek()))}>
            Zoom out
          </Button>
          <FieldPicker
            robotId={robot.id}
            said={said}
            chosen={fields}
            onChosen={(next) =>
              onSearch((search) => {
                if (next === undefined) search.delete('fields')
                else search.set('fields', next.join())
              })
            }
          />
        </div>
      </div>
      {!isLive(range) && (
        <p class="small">
          {MOMENT.formatRange(range.from, range.to)}{' '}
          <button type="button" class="link" onClick={() => go(LASTS[0])}>
            Back to now
          </button>
        </p>
      )}
      {isWorthSaying(error, history) && <Failure error={error} onRetry={reload} />}
      {fields.length === 0 ? (
        robot.heartbeat === null ? (
          <p class="soft">Nothing that it said was kept yet.</p>
        ) : (
          <Empty title="No numbers chosen">
            <p>Its latest heartbeat holds none. What it told before can be chosen above.</p>
          </Empty>
        )
      ) : history === undefined ? (
        error === undefined && <Loading what="Loading the history" />
      ) : (
        <>
          <HealthStrip history={history} silence={silence} span={span} />
          <div class="grid">
            {fields.map((field) => (
              <Chart
                key={field}
                field={field}
                buckets={history.fields.get(field) ?? NONE}
                stepMs={stepMs}
                silence={silence}
                span={span}
                onZoom={look}
                onBack={() => go(LASTS[0])}
              />
            ))}
          </div>
          <p class="small soft">
            The band goes from the least to the most of each step, the line along the average; where nothing
            came, there is a gap. Drag over a chart to look closer, double-click to come back.
          </p>
          <ValuesTable history={history} fields={fields} />
        </>
      )}
    </section>
  )
}

const NONE: readonly never[] = []
const DAY_MS = 86_400_000
const LONG_AGO_DAYS = 30

/** Which numbers are drawn: those of the latest heartbeat, and whatever else was told in the last 30 days. */
function FieldPicker({
  robotId,
  said,
  chosen,
  onChosen,
}: {
  robotId: string
  said: readonly string[]
  chosen: readonly string[]
  onChosen: (fields: readonly string[] | undefined) => void
}) {
  const [isOpen, setOpen] = useState(false)
  return (
    <details
      class="picker"
      open={isOpen}
      onToggle={(event) => setOpen(event.currentTarget.open)}
      onKeyDown={(event) => {
        if (event.key !== 'Escape' || !isOpen) return
        setOpen(false)
        event.currentTarget.querySelector('summary')?.focus()
      }}
      onFocusOut={(event) => {
        const to = event.relatedTarget
        if (to instanceof Node && !event.currentTarget.contains(to)) setOpen(false)
      }}
    >
      <summary class="button small">Choose numbers ({chosen.length})</summary>
      {isOpen && <FieldChoices robotId={robotId} said={said} chosen={chosen} onChosen={onChosen} />}
    </details>
  )
}

function FieldChoices({
  robotId,
  said,
  chosen,
  onChosen,
}: {
  robotId: string
  said: readonly string[]
  chosen: readonly string[]
  onChosen: (fields: readonly string[] | undefined) => void
}) {
  const told = useLoaded(
    async (signal) => {
      const query = { from: new Date(now.peek() - LONG_AGO_DAYS * DAY_MS).toISOString(), step: '1d' }
      const path = `/api/robots/${robotId}/heartbeats`
      const { items } = await api.get<Page<HeartbeatSummary>>(path, query, { signal })
      return inOrder(items.flatMap(({ values }) => Object.keys(values)))
    },
    [robotId],
  )
  const all = inOrder([...said, ...chosen, ...(told.value ?? [])])
  const isFull = chosen.length >= MOST_CHOSEN
  return (
    <fieldset class="choices">
      <legend class="visually-hidden">Numbers that are drawn</legend>
      {all.map((field) => {
        const isOn = chosen.includes(field)
        return (
          <label key={field} class="check">
            <input
              type="checkbox"
              checked={isOn}
              disabled={!isOn && isFull}
              onChange={() =>
                onChosen(isOn ? chosen.filter((each) => each !== field) : inOrder([...chosen, field]))
              }
            />
            <span>
              {kindOf(field).name} <code class="soft">{field}</code>
            </span>
          </label>
        )
      })}
      {all.length === 0 && !told.isLoading && <p class="soft">It told no numbers in 30 days.</p>}
      {told.isLoading && <p class="small soft">Looking for what it told before…</p>}
      {told.error !== undefined && <Failure error={told.error} onRetry={told.reload} />}
      <Button size="small" onClick={() => onChosen(undefined)}>
        As usual
      </Button>
    </fieldset>
  )
}

/** The same numbers for whoever reads rather than looks. */
function ValuesTable({ history, fields }: { history: History; fields: readonly string[] }) {
  const [isOpen, setOpen] = useState(false)
  return (
    <details class="values" open={isOpen} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Values as a table</summary>
      {isOpen && <Values history={history} fields={fields} />}
    </details>
  )
}

function Values({ history, fields }: { history: History; fields: readonly string[] }) {
  const rows = useMemo(() => rowsOf(history, fields), [history, fields])
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, and has to do so by keyboard too.
    <section class="table-wrap" tabIndex={0} aria-label="Values of the charts, newest first">
      <table class="table small numbers">
        <thead>
          <tr>
            <th scope="col">From, for {stepText(history.stepMs)}</th>
            {fields.map((field) => (
              <th key={field} scope="col">
                {kindOf(field).name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(({ at, values }) => (
            <tr key={at}>
              <th scope="row">{MOMENT.format(at)}</th>
              {values.map((bucket, index) => (
                <td key={fields[index]}>{bucket && <Value field={fields[index]!} bucket={bucket} />}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  )
}

function Value({ field, bucket }: { field: string; bucket: Bucket }) {
  const [least, most] = [formatNumber(field, bucket.min), formatNumber(field, bucket.max)]
  return (
    <>
      {formatNumber(field, bucket.avg)}
      {least !== most && (
        <span class="soft">
          {' '}
          ({least} to {most})
        </span>
      )}
    </>
  )
}
