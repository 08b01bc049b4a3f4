import { useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import type { Fleet, Info, Site } from '../../api/types.ts'
import { may, maySomewhere } from '../../session/session.ts'
import { Button } from '../../ui/button.tsx'
import { LiveMark } from '../../ui/live-mark.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import { PageHead } from '../../ui/page-head.tsx'
import { usePlaces } from '../../ui/places.ts'
import { useRepeated } from '../../ui/repeat.ts'
import { Empty, Shown } from '../../ui/states.tsx'
import { type Column, Table } from '../../ui/table.tsx'
import { DeleteFleet, DeleteSite, EditFleet, EditSite } from './dialogs.tsx'
import './places.css'
import { NOBODY, sumOf, type Tally } from './tallies.ts'
import { useTallies } from './use-tallies.ts'

const REFRESH_MS = 30_000

type Asked =
  | { readonly what: 'new-site' }
  | { readonly what: 'rename-site' | 'delete-site' | 'new-fleet'; readonly site: Site }
  | { readonly what: 'edit-fleet' | 'delete-fleet'; readonly fleet: Fleet }

/** Where robots are and what they belong to. */
export function Places() {
  const places = usePlaces()
  const info = useLoaded<Info>((signal) => api.get('/api/info', {}, { signal }), [])
  const { tallies, live } = useTallies()
  useRepeated(() => {
    if (!places.isLoading) places.reload()
  }, REFRESH_MS)
  const [asked, setAsked] = useState<Asked>()
  const mayMakeSites = may('robots:write')
  const usualMs = info.value?.heartbeat_interval_ms
  const ends = { onClose: () => setAsked(undefined), onDone: places.reload }
  const siteOf = (fleet: Fleet) =>
    places.value?.sites.find(({ id }) => id === fleet.site_id) ?? { id: fleet.site_id, name: 'its site' }
  return (
    <>
      <PageHead title="Sites and fleets">
        <LiveMark live={live} />
        {mayMakeSites && (
          <Button kind="primary" onClick={() => setAsked({ what: 'new-site' })}>
            New site
          </Button>
        )}
      </PageHead>
      <Shown loaded={places}>
        {({ sites, fleets }) =>
          sites.length === 0 ? (
            <Empty title="No sites yet">
              <p>A site is where robots are; its fleets are what they belong to.</p>
              {mayMakeSites && (
                <Button kind="primary" onClick={() => setAsked({ what: 'new-site' })}>
                  Make the first one
                </Button>
              )}
            </Empty>
          ) : (
            sites.map((site) => (
              <SitePanel
                key={site.id}
                site={site}
                fleets={fleets.filter(({ site_id }) => site_id === site.id)}
                tallies={tallies}
                usualMs={usualMs}
                onAsk={setAsked}
              />
            ))
          )
        }
      </Shown>
      {asked?.what === 'new-site' && <EditSite {...ends} />}
      {asked?.what === 'rename-site' && <EditSite site={asked.site} {...ends} />}
      {asked?.what === 'delete-site' && <DeleteSite site={asked.site} {...ends} />}
      {asked?.what === 'new-fleet' && <EditFleet site={asked.site} usualMs={usualMs} {...ends} />}
      {asked?.what === 'edit-fleet' && (
        <EditFleet fleet={asked.fleet} site={siteOf(asked.fleet)} usualMs={usualMs} {...ends} />
      )}
      {asked?.what === 'delete-fleet' && <DeleteFleet fleet={asked.fleet} {...ends} />}
    </>
  )
}

function SitePanel({
  site,
  fleets,
  tallies,
  usualMs,
  onAsk,
}: {
  site: Site
  fleets: readonly Fleet[]
  tallies: ReadonlyMap<string, Tally> | undefined
  usualMs: number | undefined
  onAsk: (asked: Asked) => void
}) {
  const heading = `site-${site.id}`
  const mayMakeSites = may('robots:write')
  const mayMakeFleets = may('robots:write', { site_id: site.id })
  const tallyOf = ({ id }: Fleet) => tallies && (tallies.get(id) ?? NOBODY)
  const whole = tallies && sumOf(fleets.map((fleet) => tallyOf(fleet)!))
  const columns: Column<Fleet>[] = [
    { name: 'Fleet', show: ({ name }) => <strong class="wrap">{name}</strong> },
    {
      name: 'Robots',
      show: (fleet) => <Robots tally={tallyOf(fleet)} filter={`fleet=${fleet.id}`} of={fleet.name} />,
    },
    {
      name: 'Heartbeats',
      show: ({ heartbeat_interval_ms: own }) =>
        own !== null ? (
          <span class="numbers">every {own / 1_000} s</span>
        ) : (
          <span class="soft numbers">
            {usualMs === undefined ? 'as usual' : `every ${usualMs / 1_000} s, as usual`}
          </span>
        ),
    },
  ]
  if (maySomewhere('robots:write'))
    columns.push({
      name: 'What can be done',
      isActions: true,
      show: (fleet) => {
        const at = { site_id: fleet.site_id, fleet_id: fleet.id }
        return (
          <div class="row">
            {may('robots:write', at) && (
              <Button
                size="small"
                label={`Change ${fleet.name}`}
                onClick={() => onAsk({ what: 'edit-fleet', fleet })}
              >
                Change
              </Button>
            )}
            {mayMakeFleets && (
              <Button
                size="small"
                kind="danger"
                label={`Delete ${fleet.name}`}
                onClick={() => onAsk({ what: 'delete-fleet', fleet })}
              >
                Delete
              </Button>
            )}
          </div>
        )
      },
    })
  return (
    <section class="panel site" aria-labelledby={heading}>
      <div class="row apart">
        <div class="row">
          <h2 id={heading} class="wrap">
            {site.name}
          </h2>
          <Robots tally={whole} filter={`site=${site.id}`} of={site.name} />
        </div>
        <div class="row">
          {mayMakeFleets && (
            <Button
              size="small"
              label={`New fleet in ${site.name}`}
              onClick={() => onAsk({ what: 'new-fleet', site })}
            >
              New fleet
            </Button>
          )}
          {mayMakeSites && (
            <>
              <Button
                size="small"
                label={`Rename ${site.name}`}
                onClick={() => onAsk({ what: 'rename-site', site })}
              >
                Rename
              </Button>
              <Button
                size="small"
                kind="danger"
                label={`Delete ${site.name}`}
                onClick={() => onAsk({ what: 'delete-site', site })}
              >
                Delete
              </Button>
            </>
          )}
        </div>
      </div>
      {fleets.length > 0 ? (
        <Table label={`Fleets of ${site.name}`} columns={columns} rows={fleets} keyOf={({ id }) => id} />
      ) : (
        <p class="soft">No fleets yet.</p>
      )}
    </section>
  )
}

function Robots({ tally, filter, of }: { tally: Tally | undefined; filter: string; of: string }) {
  if (!tally) return <span class="soft">…</span>
  const { robots, online, retired } = tally
  return (
    <span class="numbers">
      {robots === 0 ? (
        <span class="soft">no robots</span>
      ) : (
        <a href={`/?${filter}`}>
          {robots.toLocaleString('en')} {robots === 1 ? 'robot' : 'robots'}
          <span class="visually-hidden"> of {of}</span>
        </a>
      )}
      {robots > 0 && <span class="soft"> · {online.toLocaleString('en')} online</span>}
      {retired > 0 && (
        <>
          {' · '}
          <a class="soft" href={`/?${filter}&lifecycle=retired`}>
            {retired.toLocaleString('en')} retired
            <span class="visually-hidden"> of {of}</span>
          </a>
        </>
      )}
    </span>
  )
}
