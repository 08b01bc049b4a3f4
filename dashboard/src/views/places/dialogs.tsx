import { api } from '../../api/client.ts'
import type { Fleet, Site } from '../../api/types.ts'
import { may } from '../../session/session.ts'
import { Confirm, Dialog } from '../../ui/dialog.tsx'
import { Field } from '../../ui/field.tsx'
import { Form } from '../../ui/form.tsx'
import { done } from '../../ui/toasts.tsx'

interface Ends {
  readonly onClose: () => void
  readonly onDone: () => void
}

const LONGEST_NAME = 128

export function EditSite({ site, onClose, onDone }: { site?: Site | undefined } & Ends) {
  return (
    <Dialog title={site ? `Rename “${site.name}”` : 'New site'} onClose={onClose}>
      <Form
        action={site ? 'Rename it' : 'Make the site'}
        onCancel={onClose}
        onSubmit={async ({ name }) => {
          if (site) await api.patch(`/api/sites/${site.id}`, { name })
          else await api.post('/api/sites', { name })
          done(site ? `“${site.name}” is “${name}” now.` : `“${name}” is there.`)
          onDone()
          onClose()
        }}
      >
        {(wrong) => (
          <Field name="Name" hint="A building, a plant, a customer: where robots are." wrong={wrong('name')}>
            <input name="name" required maxLength={LONGEST_NAME} defaultValue={site?.name ?? ''} autofocus />
          </Field>
        )}
      </Form>
    </Dialog>
  )
}

export function EditFleet({
  fleet,
  site,
  usualMs,
  onClose,
  onDone,
}: {
  fleet?: Fleet | undefined
  site: Pick<Site, 'id' | 'name'>
  /** How often robots report where their fleet says nothing. */
  usualMs: number | undefined
} & Ends) {
  const mayName = may('robots:write', { site_id: site.id })
  const usual = usualMs === undefined ? 'the deployment' : `the deployment, every ${usualMs / 1_000} s`
  return (
    <Dialog title={fleet ? `Fleet “${fleet.name}”` : `New fleet in “${site.name}”`} onClose={onClose}>
      <Form
        action={fleet ? 'Save' : 'Make the fleet'}
        onCancel={onClose}
        onSubmit={async ({ name, seconds }) => {
          const heartbeat_interval_ms = seconds ? Math.round(Number(seconds) * 1_000) : null
          if (fleet)
            await api.patch(`/api/fleets/${fleet.id}`, {
              ...(mayName && name !== fleet.name ? { name } : {}),
              heartbeat_interval_ms,
            })
          else await api.post('/api/fleets', { site_id: site.id, name, heartbeat_interval_ms })
          done(fleet ? `“${mayName ? name : fleet.name}” is saved.` : `“${name}” is there.`)
          onDone()
          onClose()
        }}
      >
        {(wrong) => (
          <>
            {mayName && (
              <Field name="Name" hint="What the robots are, or do." wrong={wrong('name')}>
                <input
                  name="name"
                  required
                  maxLength={LONGEST_NAME}
                  defaultValue={fleet?.name ?? ''}
                  autofocus
                />
              </Field>
            )}
            <Field
              name="Seconds between heartbeats"
              hint={`0.5 to 3600; empty: as ${usual}. Robots that are connected hear of it at once. One counts as stale after two and a half such times of silence.`}
              wrong={wrong('heartbeat_interval_ms')}
            >
              <input
                name="seconds"
                type="number"
                min={0.5}
                max={3600}
                step="any"
                placeholder={usualMs === undefined ? '' : String(usualMs / 1_000)}
                defaultValue={fleet?.heartbeat_interval_ms ? String(fleet.heartbeat_interval_ms / 1_000) : ''}
              />
            </Field>
          </>
        )}
      </Form>
    </Dialog>
  )
}

export function DeleteSite({ site, onClose, onDone }: { site: Site } & Ends) {
  return (
    <Confirm
      title={`Delete the site “${site.name}”?`}
      action="Delete the site"
      danger
      onClose={onClose}
      onConfirm={async () => {
        await api.delete(`/api/sites/${site.id}`)
        done(`“${site.name}” is gone.`)
        onDone()
      }}
    >
      <p>Only a site without fleets can go. The roles that people have there go with it.</p>
    </Confirm>
  )
}

export function DeleteFleet({ fleet, onClose, onDone }: { fleet: Fleet } & Ends) {
  return (
    <Confirm
      title={`Delete the fleet “${fleet.name}”?`}
      action="Delete the fleet"
      danger
      onClose={onClose}
      onConfirm={async () => {
        await api.delete(`/api/fleets/${fleet.id}`)
        done(`“${fleet.name}” is gone.`)
        onDone()
      }}
    >
      <p>
        Only a fleet without robots can go, those that are retired included. Its enrollment keys, its
        provisioning tokens and its own tokens stop working at once, and the roles that people have there go
        with it.
      </p>
    </Confirm>
  )
}
