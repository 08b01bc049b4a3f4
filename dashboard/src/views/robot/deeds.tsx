import { useState } from 'preact/hooks'
import { useLocation } from 'preact-iso'
import { all } from '../../api/client.ts'
import type { Fleet, Robot, SetupToken, Site } from '../../api/types.ts'
import {
  APPROVE,
  BACK_TO_WORK,
  DELETE,
  DENY,
  label,
  labelChange,
  MAINTENANCE,
  MOVE_SAYS,
  makeSetupToken,
  move,
  RETIRE,
  REVOKE_TOKEN,
  ROTATE_TOKEN,
  type RobotDeed,
  rename,
  SETUP_TOKEN_SAYS,
} from '../../robots/deeds.ts'
import { may } from '../../session/session.ts'
import { Button } from '../../ui/button.tsx'
import { Secret } from '../../ui/copy.tsx'
import { Confirm, Dialog } from '../../ui/dialog.tsx'
import { Field } from '../../ui/field.tsx'
import { Form } from '../../ui/form.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import { Shown } from '../../ui/states.tsx'
import { Ago, moment } from '../../ui/times.tsx'
import { done } from '../../ui/toasts.tsx'

interface Props {
  readonly robot: Robot
  readonly onChanged: (robot: Robot) => void
}

interface Simple {
  readonly deed: RobotDeed
  readonly name: string
  readonly title: (name: string) => string
  readonly done: string
}

/** What takes no more than a yes. */
const SIMPLE = {
  approve: { deed: APPROVE, name: 'Approve', title: (name) => `Approve ${name}?`, done: 'Approved' },
  deny: { deed: DENY, name: 'Deny', title: (name) => `Deny ${name}?`, done: 'Denied' },
  maintenance: {
    deed: MAINTENANCE,
    name: 'Put in maintenance',
    title: (name) => `Put ${name} in maintenance?`,
    done: 'In maintenance',
  },
  backToWork: {
    deed: BACK_TO_WORK,
    name: 'Back to work',
    title: (name) => `End the maintenance of ${name}?`,
    done: 'Back to work',
  },
  rotate: {
    deed: ROTATE_TOKEN,
    name: 'Rotate token',
    title: (name) => `Ask ${name} for a new token?`,
    done: 'Asked for a new token',
  },
  revoke: {
    deed: REVOKE_TOKEN,
    name: 'Revoke token',
    title: (name) => `Revoke the token of ${name}?`,
    done: 'Token revoked',
  },
  retire: { deed: RETIRE, name: 'Retire', title: (name) => `Retire ${name}?`, done: 'Retired' },
  delete: {
    deed: DELETE,
    name: 'Delete record',
    title: (name) => `Delete the record of ${name}?`,
    done: 'Record deleted',
  },
} as const satisfies Record<string, Simple>

export type SimpleDeed = keyof typeof SIMPLE

/** A button that asks first; nothing where the viewer may not, or the robot is not one that it is for. */
export function DeedButton({
  what,
  robot,
  onChanged,
  isPrimary = false,
}: Props & { what: SimpleDeed; isPrimary?: boolean }) {
  const [isAsking, setAsking] = useState(false)
  const { route } = useLocation()
  const { deed, name, title, done: told }: Simple = SIMPLE[what]
  if (!may('robots:write', robot) || !deed.fits(robot)) return null
  return (
    <>
      <Button
        size="small"
        kind={deed.danger ? 'danger' : isPrimary ? 'primary' : 'plain'}
        onClick={() => setAsking(true)}
      >
        {name}
      </Button>
      {isAsking && (
        <Confirm
          title={title(robot.name)}
          action={name}
          danger={deed.danger === true}
          onClose={() => setAsking(false)}
          onConfirm={async () => {
            const answer = await deed.change(robot)
            done(`${robot.name}: ${told}`)
            if (isRobot(answer)) onChanged(answer)
            if (what === 'delete') route('/')
          }}
        >
          <p>{deed.says}</p>
          {what === 'rotate' && robot.rotation && (
            <p class="soft">
              It was asked <Ago time={robot.rotation.requested_at} /> and has not come with one yet. Asking
              again asks a connected robot once more.
            </p>
          )}
        </Confirm>
      )}
    </>
  )
}

/** Some changes answer with the robot as it is now, others with what became of it. */
function isRobot(answer: unknown): answer is Robot {
  return typeof answer === 'object' && answer !== null && 'lifecycle' in answer && 'connection' in answer
}

export function RenameButton({ robot, onChanged }: Props) {
  const [isOpen, setOpen] = useState(false)
  if (!may('robots:write', robot) || robot.lifecycle === 'retired') return null
  const close = () => setOpen(false)
  return (
    <>
      <Button size="small" kind="quiet" label="Rename" onClick={() => setOpen(true)}>
        Rename
      </Button>
      {isOpen && (
        <Dialog title={`Rename ${robot.name}`} onClose={close}>
          <p>The robot is told its new name at once. Whoever looks for the old one finds it no more.</p>
          <Form
            action="Rename"
            onCancel={close}
            onSubmit={async ({ name }) => {
              onChanged(await rename(robot, name!.trim()))
              close()
            }}
          >
            {(wrong) => (
              <Field name="Name" wrong={wrong('name')} hint="No other robot of the fleet may have it.">
                <input name="name" required maxLength={128} defaultValue={robot.name} autofocus />
              </Field>
            )}
          </Form>
        </Dialog>
      )}
    </>
  )
}

export function LabelsButton({ robot, onChanged }: Props) {
  const [isOpen, setOpen] = useState(false)
  if (!may('robots:write', robot) || robot.lifecycle === 'retired') return null
  return (
    <>
      <Button size="small" kind="quiet" label="Change labels" onClick={() => setOpen(true)}>
        Change
      </Button>
      {isOpen && <LabelsDialog robot={robot} onChanged={onChanged} onClose={() => setOpen(false)} />}
    </>
  )
}

interface LabelRow {
  readonly key: number
  readonly name: string
  readonly value: string
}

let lastKey = 0
const rowOf = ([name, value]: readonly [string, string]): LabelRow => ({ key: ++lastKey, name, value })

function LabelsDialog({ robot, onChanged, onClose }: Props & { onClose: () => void }) {
  const [before] = useState(robot.labels)
  const [rows, setRows] = useState<readonly LabelRow[]>(() => {
    const present = Object.entries(before).map(rowOf)
    return present.length > 0 ? present : [rowOf(['', ''])]
  })
  const change = (key: number, part: Partial<LabelRow>) =>
    setRows((old) => old.map((row) => (row.key === key ? { ...row, ...part } : row)))
  return (
    <Dialog title={`Labels of ${robot.name}`} onClose={onClose}>
      <p>What the fleet can be filtered by. Labels that somebody else changes meanwhile stay.</p>
      <Form
        action="Save labels"
        onCancel={onClose}
        onSubmit={async () => {
          const named = rows.filter(({ name }) => name.trim() !== '')
          const labels = Object.fromEntries(named.map(({ name, value }) => [name.trim(), value.trim()]))
          if (Object.keys(labels).length < named.length) throw new Error('Two labels have the same name')
          onChanged(await label(robot, labelChange(before, labels)))
          onClose()
        }}
      >
        {(wrong) => (
          <>
            <ul class="label-rows">
              {rows.map(({ key, name, value }, index) => (
                <li key={key}>
                  <input
                    aria-label={`Name of label ${index + 1}`}
                    placeholder="Name"
                    value={name}
                    maxLength={63}
                    onInput={(event) => change(key, { name: event.currentTarget.value })}
                  />
                  <input
                    aria-label={`Value of label ${index + 1}`}
                    placeholder="Value, may be empty"
                    value={value}
                    maxLength={256}
                    onInput={(event) => change(key, { value: event.currentTarget.value })}
                  />
                  <Button
                    size="small"
                    kind="quiet"
                    label={`Remove label ${index + 1}${name === '' ? '' : `, ${name}`}`}
                    onClick={() => setRows((old) => old.filter((row) => row.key !== key))}
                  >
                    ✕
                  </Button>
                </li>
              ))}
            </ul>
            {wrong('labels') && <p class="wrong small">{wrong('labels')}</p>}
            <div class="row">
              <Button size="small" onClick={() => setRows((old) => [...old, rowOf(['', ''])])}>
                Add a label
              </Button>
            </div>
          </>
        )}
      </Form>
    </Dialog>
  )
}

export function MoveButton({ robot, onChanged }: Props) {
  const [isOpen, setOpen] = useState(false)
  if (!may('robots:write', robot) || robot.lifecycle === 'retired') return null
  return (
    <>
      <Button size="small" kind="quiet" label="Move to another fleet" onClick={() => setOpen(true)}>
        Move
      </Button>
      {isOpen && <MoveDialog robot={robot} onChanged={onChanged} onClose={() => setOpen(false)} />}
    </>
  )
}

function MoveDialog({ robot, onChanged, onClose }: Props & { onClose: () => void }) {
  const places = useLoaded(
    async () => ({ sites: await all<Site>('/api/sites'), fleets: await all<Fleet>('/api/fleets') }),
    [],
  )
  return (
    <Dialog title={`Move ${robot.name}`} onClose={onClose}>
      <p>{MOVE_SAYS}</p>
      <Shown loaded={places}>
        {({ sites, fleets }) => {
          const names = new Map(sites.map(({ id, name }) => [id, name]))
          const others = fleets.filter(
            ({ id, site_id }) => id !== robot.fleet_id && may('robots:write', { site_id, fleet_id: id }),
          )
          if (others.length === 0)
            return <p class="notice">There is no other fleet that you may move it to.</p>
          return (
            <Form
              action="Move"
              onCancel={onClose}
              onSubmit={async ({ fleet_id }) => {
                onChanged(await move(robot, fleet_id!))
                onClose()
              }}
            >
              {(wrong) => (
                <Field name="To the fleet" wrong={wrong('fleet_id')}>
                  <select name="fleet_id" required>
                    {others.map(({ id, name, site_id }) => (
                      <option key={id} value={id}>
                        {names.get(site_id) ?? 'site'} · {name}
                      </option>
                    ))}
                  </select>
                </Field>
              )}
            </Form>
          )
        }}
      </Shown>
    </Dialog>
  )
}

/** A token with which any machine can become this robot, shown once with the command that uses it. */
export function SetupTokenButton({ robot }: { robot: Robot }) {
  const [isAsking, setAsking] = useState(false)
  const [made, setMade] = useState<SetupToken>()
  if (!may('enrollment-keys:write', robot) || robot.lifecycle === 'retired') return null
  return (
    <>
      <Button size="small" onClick={() => setAsking(true)}>
        New setup token
      </Button>
      {isAsking && (
        <Confirm
          title={`Make a setup token for ${robot.name}?`}
          action="Make setup token"
          onClose={() => setAsking(false)}
          onConfirm={async () => setMade(await makeSetupToken(robot))}
        >
          <p>{SETUP_TOKEN_SAYS}</p>
        </Confirm>
      )}
      {made && !isAsking && (
        <Dialog title={`Setup token for ${robot.name}`} onClose={() => setMade(undefined)}>
          <p>
            It is shown only now, and good until {moment(made.expires_at)}. Whoever has it can become this
            robot.
          </p>
          {made.setup_command && <Secret text={made.setup_command} what="On the machine" />}
          {made.setup_token && <Secret text={made.setup_token} what="The token alone" />}
          <div class="actions">
            <Button kind="primary" onClick={() => setMade(undefined)}>
              Done
            </Button>
          </div>
        </Dialog>
      )}
    </>
  )
}
