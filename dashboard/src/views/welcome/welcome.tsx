import { useEffect, useState } from 'preact/hooks'
import { all, api } from '../../api/client.ts'
import type { EnrollmentKey, Fleet, Site } from '../../api/types.ts'
import { follow, type LiveRobot } from '../../live/feed.ts'
import { may } from '../../session/session.ts'
import { Connection } from '../../ui/badge.tsx'
import { Secret } from '../../ui/copy.tsx'
import { Field } from '../../ui/field.tsx'
import { Form } from '../../ui/form.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import { PageHead } from '../../ui/page-head.tsx'
import { Shown } from '../../ui/states.tsx'
import './welcome.css'

interface Places {
  readonly sites: readonly Site[]
  readonly fleets: readonly Fleet[]
}

/** From nothing to the first robot online: a place, a key, one command, and seeing it arrive. */
export function Welcome() {
  const places = useLoaded<Places>(
    async () => ({ sites: await all<Site>('/api/sites'), fleets: await all<Fleet>('/api/fleets') }),
    [],
  )
  const [key, setKey] = useState<EnrollmentKey>()
  return (
    <>
      <PageHead title="Add robots" />
      <ol class="steps">
        <li aria-current={key ? undefined : 'step'} data-done={key !== undefined}>
          <h2>Make a key for the batch</h2>
          {key ? (
            <p class="soft">
              “{key.name}” lets in {key.max_uses.toLocaleString()} {key.max_uses === 1 ? 'robot' : 'robots'}
              {key.expires_at ? ` until ${new Date(key.expires_at).toLocaleString()}` : ' and never expires'}.
            </p>
          ) : (
            <Shown loaded={places}>{(known) => <NewKey places={known} onMade={setKey} />}</Shown>
          )}
        </li>
        <li aria-current={key ? 'step' : undefined}>
          <h2>Run one command on each robot</h2>
          {key?.setup_command ? (
            <Command command={key.setup_command} />
          ) : (
            <p class="soft">It installs the agent and enrols the robot; Linux, with or without root.</p>
          )}
        </li>
        <li>
          <h2>See them arrive</h2>
          {key ? (
            <Arrivals keyId={key.id} />
          ) : (
            <p class="soft">A robot is online some seconds after its command.</p>
          )}
        </li>
      </ol>
    </>
  )
}

const NEW = 'new'

function NewKey({ places, onMade }: { places: Places; onMade: (key: EnrollmentKey) => void }) {
  const usable = places.fleets.filter((fleet) =>
    may('enrollment-keys:write', { site_id: fleet.site_id, fleet_id: fleet.id }),
  )
  const mayMake = may('robots:write')
  const [fleetId, setFleetId] = useState(usable[0]?.id ?? NEW)
  const isNew = fleetId === NEW
  const siteNames = new Map(places.sites.map(({ id, name }) => [id, name]))

  const fleetOf = async (texts: Record<string, string>): Promise<{ id: string; site_id: string }> => {
    const known = usable.find(({ id }) => id === fleetId)
    if (known) return known
    const site =
      places.sites.find(({ name }) => name === texts.site_name) ??
      (await api.post<Site>('/api/sites', { name: texts.site_name }))
    return api.post<Fleet>('/api/fleets', { site_id: site.id, name: texts.fleet_name })
  }

  return (
    <Form
      action="Make the key"
      onSubmit={async (texts) => {
        const fleet = await fleetOf(texts)
        // Should the rest fail, the place is there and is not made once more.
        onMade(
          await api.post<EnrollmentKey>('/api/enrollment-keys', {
            site_id: fleet.site_id,
            fleet_id: fleet.id,
            name: texts.key_name,
            max_uses: Number(texts.max_uses),
            expires_in_hours: texts.hours === '' ? null : Number(texts.hours),
            require_approval: texts.approval === 'on',
          }),
        )
      }}
    >
      {(wrong) => (
        <>
          {usable.length > 0 && (
            <Field name="Fleet" hint="Where the robots belong. They can be moved later.">
              <select value={fleetId} onChange={(event) => setFleetId(event.currentTarget.value)}>
                {usable.map(({ id, name, site_id }) => (
                  <option key={id} value={id}>
                    {siteNames.get(site_id) ?? 'site'} · {name}
                  </option>
                ))}
                {mayMake && <option value={NEW}>A new fleet…</option>}
              </select>
            </Field>
          )}
          {isNew && (
            <div class="pair">
              <Field name="Site" hint="Where they are." wrong={wrong('site_id')}>
                <input name="site_name" required maxLength={128} list="site-names" defaultValue="Main site" />
              </Field>
              <Field name="Fleet" hint="What they are." wrong={wrong('fleet_id')}>
                <input name="fleet_name" required maxLength={128} defaultValue="Robots" />
              </Field>
              <datalist id="site-names">
                {places.sites.map(({ id, name }) => (
                  <option key={id} value={name} />
                ))}
              </datalist>
            </div>
          )}
          <Field name="Name of the key" hint="Tells batches apart later." wrong={wrong('name')}>
            <input name="key_name" required maxLength={128} defaultValue="First batch" />
          </Field>
          <div class="pair">
            <Field name="Robots" hint="How many it lets in." wrong={wrong('max_uses')}>
              <input name="max_uses" type="number" min={1} max={1_000_000} required defaultValue="100" />
            </Field>
            <Field name="Good for" wrong={wrong('expires_in_hours')}>
              <select name="hours" defaultValue="24">
                <option value="1">1 hour</option>
                <option value="24">1 day</option>
                <option value="168">7 days</option>
                <option value="720">30 days</option>
                <option value="">Until it is revoked</option>
              </select>
            </Field>
          </div>
          <label class="check">
            <input type="checkbox" name="approval" />
            Each robot waits until somebody approves it
          </label>
        </>
      )}
    </Form>
  )
}

function Command({ command }: { command: string }) {
  const isLocal = /\/\/(localhost|127\.|\[::1\])/.test(command)
  return (
    <>
      <Secret
        text={command}
        what="On the robot"
        note="Whoever has this line can enrol a robot with the key. Add --name warehouse-bot-01 to name it; without it the robot goes by its hostname."
      />
      {isLocal && (
        <p class="notice small" data-tone="warn">
          This address is good on this machine only. Start the server with BEACON_HOST and BEACON_PUBLIC_URL
          so that robots can reach it.
        </p>
      )}
    </>
  )
}

/** The robots of a key, as they come. */
function Arrivals({ keyId }: { keyId: string }) {
  const [robots, setRobots] = useState<ReadonlyMap<string, LiveRobot>>(new Map())
  useEffect(
    () =>
      follow(
        { credential: keyId, detail: 'status' },
        {
          onSnapshot: (all) => setRobots(new Map(all.map((robot) => [robot.id, robot]))),
          onDelta: (changed, removed) =>
            setRobots((old) => {
              const next = new Map(old)
              for (const robot of changed) next.set(robot.id, robot)
              for (const id of removed) next.delete(id)
              return next
            }),
          onLive: () => {},
        },
      ),
    [keyId],
  )
  const online = [...robots.values()].filter(({ connection }) => connection === 'online').length
  return (
    <div class="stack" aria-live="polite">
      {robots.size === 0 ? (
        <p class="waiting">Waiting for the first robot…</p>
      ) : (
        <>
          <p>
            <strong>{online}</strong> of {robots.size} online.{' '}
            <a href="/">{online > 0 ? 'Go to the fleet' : 'See the fleet'}</a>
          </p>
          <ul class="arrivals">
            {[...robots.values()].slice(-20).map((robot) => (
              <li key={robot.id}>
                <a href={`/robots/${robot.id}`}>{robot.name}</a> <Connection robot={robot} />
                {robot.lifecycle === 'pending' && <a href="/approvals">waits for approval</a>}
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  )
}
