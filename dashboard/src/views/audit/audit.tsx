import { useMemo, useState } from 'preact/hooks'
import { useLocation } from 'preact-iso'
import type { AuditLine } from '../../api/types.ts'
import { may } from '../../session/session.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { PageHead } from '../../ui/page-head.tsx'
import { usePages } from '../../ui/pages.ts'
import { type Places, placeName, usePlaces } from '../../ui/places.ts'
import { Choice, PlaceChoices, Typed, words } from '../../ui/search-controls.tsx'
import { Empty, Shown } from '../../ui/states.tsx'
import { type Column, Table } from '../../ui/table.tsx'
import { Ago, moment } from '../../ui/times.tsx'
import { actionChoices, inWords, nameOf } from './actions.ts'
import './audit.css'
import {
  type AuditFilter,
  auditAddressOf,
  auditFilterOf,
  exportAddressOf,
  instantOf,
  isNarrowed,
  localOf,
  withParts,
} from './filters.ts'
import { VerifyAudit } from './verify.tsx'

const NOWHERE: Places = { sites: [], fleets: [] }

/** Who did what, when and from where, and who was refused. */
export function Audit() {
  const { url, route } = useLocation()
  const filter = useMemo(() => auditFilterOf(url), [url])
  const setFilter = (next: AuditFilter) => route(auditAddressOf(next), true)
  const lines = usePages<AuditLine>('/api/audit', filter)
  const places = usePlaces().value ?? NOWHERE
  const [open, setOpen] = useState<ReadonlySet<number>>(new Set())
  const [isVerifying, setVerifying] = useState(false)
  const toggle = (seq: number) => {
    const next = new Set(open)
    if (!next.delete(seq)) next.add(seq)
    setOpen(next)
  }
  return (
    <>
      <PageHead title="Audit log">
        <Button busy={lines.isLoading} onClick={lines.reload}>
          Refresh
        </Button>
        {may('audit:read') && <Button onClick={() => setVerifying(true)}>Verify…</Button>}
        <a class="button" href={exportAddressOf(filter, 'csv')} download>
          Export CSV
        </a>
        <a class="button" href={exportAddressOf(filter, 'ndjson')} download>
          Export NDJSON
        </a>
      </PageHead>
      <FilterBar filter={filter} places={places} onFilter={setFilter} />
      <Shown loaded={lines}>
        {(rows) =>
          rows.length > 0 ? (
            <Table
              label="Audit log, newest first"
              columns={columnsOf(filter, places, open, toggle)}
              rows={rows}
              keyOf={({ seq }) => String(seq)}
              below={(line) => open.has(line.seq) && <Details line={line} filter={filter} />}
            />
          ) : (
            <Empty title={isNarrowed(filter) ? 'No line passes this filter' : 'Nothing happened yet'}>
              {isNarrowed(filter) && <Button onClick={() => setFilter({})}>Show all</Button>}
            </Empty>
          )
        }
      </Shown>
      {lines.more && <Button onClick={lines.more}>Show older ones</Button>}
      {isVerifying && <VerifyAudit onClose={() => setVerifying(false)} />}
    </>
  )
}

/** Parts of the filter that come from clicks on what stands in a line. */
const FOUND = ['actor', 'user', 'target', 'address', 'request_id'] as const

function FilterBar({
  filter,
  places: { sites, fleets },
  onFilter,
}: {
  filter: AuditFilter
  places: Places
  onFilter: (filter: AuditFilter) => void
}) {
  const set = (name: keyof AuditFilter) => (value: string | undefined) =>
    onFilter(withParts(filter, { [name]: value }))
  return (
    // biome-ignore lint/a11y/useSemanticElements: the element is not known to screen readers everywhere yet.
    <div class="audit-filters" role="search" aria-label="Filter the audit log">
      <Typed
        name="Name of actor or target"
        placeholder="Name of actor or target"
        value={filter.q ?? ''}
        onValue={set('q')}
      />
      <Choice
        name="What"
        any="anything"
        value={filter.action}
        options={actionChoices(filter.action)}
        onValue={set('action')}
      />
      <Choice
        name="Outcome"
        value={filter.outcome}
        options={words('ok', 'refused')}
        onValue={set('outcome')}
      />
      <PlaceChoices filter={filter} places={{ sites, fleets }} onPlace={(place, id) => set(place)(id)} />
      <label>
        <span>From</span>
        <input
          type="datetime-local"
          value={localOf(filter.from)}
          max={localOf(filter.to) || undefined}
          onChange={(event) => set('from')(instantOf(event.currentTarget.value))}
        />
      </label>
      <label>
        <span>Before</span>
        <input
          type="datetime-local"
          value={localOf(filter.to)}
          min={localOf(filter.from) || undefined}
          onChange={(event) => set('to')(instantOf(event.currentTarget.value))}
        />
      </label>
      {FOUND.map(
        (name) =>
          filter[name] && (
            <Button
              key={name}
              size="small"
              label={`Any ${inWords(name)}, not only ${filter[name]}`}
              onClick={() => set(name)(undefined)}
            >
              {inWords(name)} <code>{short(filter[name])}</code> ✕
            </Button>
          ),
      )}
      {isNarrowed(filter) && (
        <Button kind="quiet" onClick={() => onFilter({})}>
          Show all
        </Button>
      )}
    </div>
  )
}

/** The end of an id: ids of one day begin alike. */
const short = (text: string) => (text.length > 20 ? `…${text.slice(-12)}` : text)

function columnsOf(
  filter: AuditFilter,
  places: Places,
  open: ReadonlySet<number>,
  toggle: (seq: number) => void,
): Column<AuditLine>[] {
  const only = (parts: Parameters<typeof withParts>[1]) => auditAddressOf(withParts(filter, parts))
  return [
    {
      name: 'When',
      show: ({ at }) => (
        <span class="when" title={at}>
          {moment(at)}
        </span>
      ),
    },
    {
      name: 'What',
      show: ({ action, outcome }) => (
        <span class="row">
          <a class="quiet-link" href={only({ action })} title="Only these">
            <code>{action}</code>
          </a>
          {outcome === 'refused' && <Badge tone="error">refused</Badge>}
        </span>
      ),
    },
    {
      name: 'Who',
      show: ({ actor }) => (
        <span class="thing">
          {/* Who is nobody, or the server, is a kind alone. */}
          <a class="quiet-link" href={only({ actor: actor.id ?? actor.kind })} title="Only of this actor">
            {nameOf(actor)}
          </a>
          {actor.name !== null && <span class="small soft">{inWords(actor.kind)}</span>}
        </span>
      ),
    },
    {
      name: 'To what',
      show: ({ target }) =>
        target && (
          <span class="thing">
            <a class="quiet-link" href={only({ target: target.id })} title="Only of this target">
              {nameOf(target)}
            </a>
            {target.name !== null && <span class="small soft">{inWords(target.kind)}</span>}
          </span>
        ),
    },
    {
      name: 'Where',
      show: (line) =>
        line.site_id !== null || line.fleet_id !== null ? (
          placeName(places, line)
        ) : (
          <span class="soft">–</span>
        ),
    },
    { name: 'From', show: ({ address }) => address ?? <span class="soft">–</span> },
    {
      name: 'Details',
      isActions: true,
      show: ({ seq }) => (
        <button
          type="button"
          class="button quiet small"
          aria-expanded={open.has(seq)}
          onClick={() => toggle(seq)}
        >
          {open.has(seq) ? 'Less' : 'More'}
          <span class="visually-hidden"> about line {seq}</span>
        </button>
      ),
    },
  ]
}

function Details({ line, filter }: { line: AuditLine; filter: AuditFilter }) {
  const only = (parts: Parameters<typeof withParts>[1]) => auditAddressOf(withParts(filter, parts))
  const { actor, target } = line
  return (
    <div class="audit-details">
      {Object.keys(line.data).length > 0 && <pre>{JSON.stringify(line.data, undefined, 2)}</pre>}
      <dl class="facts small">
        <dt>When</dt>
        <dd>
          <code>{line.at}</code>, <Ago time={line.at} />
        </dd>
        {actor.id && (
          <>
            <dt>Actor</dt>
            <dd>
              <code>{actor.id}</code>
              {actor.kind === 'user' && (
                <>
                  {' '}
                  · <a href={only({ user: actor.id, actor: undefined })}>all about this person</a>
                </>
              )}
            </dd>
          </>
        )}
        {target && (
          <>
            <dt>Target</dt>
            <dd>
              <code>{target.id}</code>
              {target.kind === 'robot' && (
                <>
                  {' '}
                  · <a href={`/robots/${encodeURIComponent(target.id)}`}>see the robot</a>
                </>
              )}
              {target.kind === 'user' && (
                <>
                  {' '}
                  · <a href={only({ user: target.id, target: undefined })}>all about this person</a>
                </>
              )}
            </dd>
          </>
        )}
        {line.address && (
          <>
            <dt>Address</dt>
            <dd>
              <a href={only({ address: line.address })}>{line.address}</a>
            </dd>
          </>
        )}
        {line.request_id && (
          <>
            <dt>Request</dt>
            <dd>
              <a href={only({ request_id: line.request_id })}>
                <code>{line.request_id}</code>
              </a>
            </dd>
          </>
        )}
        <dt>Line</dt>
        <dd>
          {line.seq} · <code class="wrap">{line.hash}</code>
        </dd>
      </dl>
    </div>
  )
}
