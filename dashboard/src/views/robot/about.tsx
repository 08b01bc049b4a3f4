import type { ComponentChildren } from 'preact'
import { api } from '../../api/client.ts'
import type { EnrollmentKey, ProvisioningToken, Robot } from '../../api/types.ts'
import { may } from '../../session/session.ts'
import { Badge, Lifecycle } from '../../ui/badge.tsx'
import { Copy } from '../../ui/copy.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import { Ago } from '../../ui/times.tsx'
import { addressOf } from '../keys/address.ts'
import { DeedButton, LabelsButton, MoveButton, RenameButton, SetupTokenButton } from './deeds.tsx'
import { linesOf } from './said.ts'
import { Fact } from './says.tsx'
import { ifSeen, type Place } from './use-robot.ts'

interface Props {
  readonly robot: Robot
  readonly place: Place
  readonly onChanged: (robot: Robot) => void
}

/** What the robot is, and what the viewer may change about it. */
export function About({ robot, place, onChanged }: Props) {
  const change = { robot, onChanged }
  return (
    <>
      <section class="panel" aria-labelledby="about-title">
        <h2 id="about-title">About</h2>
        <dl class="facts about">
          <Fact name="Name">
            <Changeable button={<RenameButton {...change} />}>{robot.name}</Changeable>
          </Fact>
          <Fact name="Fleet">
            <Changeable button={<MoveButton {...change} />}>
              <a href={`/?fleet=${robot.fleet_id}`}>{place.fleet?.name ?? 'fleet'}</a>
              <span class="soft"> at {place.site?.name ?? 'its site'}</span>
            </Changeable>
          </Fact>
          <Fact name="Labels">
            <Changeable button={<LabelsButton {...change} />}>
              <Labels labels={robot.labels} />
            </Changeable>
          </Fact>
          <Fact name="State">
            <Lifecycle lifecycle={robot.lifecycle} />
          </Fact>
          <Fact name="Created">
            <Ago time={robot.created_at} />
          </Fact>
          {robot.retired_at && (
            <Fact name="Retired">
              <Ago time={robot.retired_at} />
            </Fact>
          )}
          <Fact name="Id">
            <Changeable button={<Copy text={robot.id} />}>
              <code class="small">{robot.id}</code>
            </Changeable>
          </Fact>
        </dl>
        <div class="row deeds">
          <DeedButton what="maintenance" {...change} />
          <DeedButton what="backToWork" {...change} />
          <DeedButton what="retire" {...change} />
          <DeedButton what="delete" {...change} />
        </div>
      </section>
      <section class="panel" aria-labelledby="access-title">
        <h2 id="access-title">Access</h2>
        <dl class="facts about">
          <Fact name="Token">
            <TokenState robot={robot} />
          </Fact>
          {robot.token_issued_at && (
            <Fact name="Issued">
              <Ago time={robot.token_issued_at} />
            </Fact>
          )}
          {robot.rotation && (
            <Fact name="Rotation">
              asked <Ago time={robot.rotation.requested_at} />
              {ROTATION[robot.rotation.reason]}
            </Fact>
          )}
          <Fact name="Enrolled">
            <Ago time={robot.enrolled_at} />
          </Fact>
          <Fact name="Admitted by">
            <Credential id={robot.credential_id} robot={robot} />
          </Fact>
          {robot.token_credential_id !== robot.credential_id && (
            <Fact name="Token from">
              <Credential id={robot.token_credential_id} robot={robot} />
            </Fact>
          )}
        </dl>
        <div class="row deeds">
          <DeedButton what="rotate" {...change} />
          <SetupTokenButton robot={robot} />
          <DeedButton what="revoke" {...change} />
        </div>
      </section>
      <section class="panel" aria-labelledby="machine-title">
        <h2 id="machine-title">Machine</h2>
        {Object.keys(robot.fingerprint).length === 0 && !robot.agent ? (
          <p class="soft">No machine has enrolled as this robot yet.</p>
        ) : (
          <>
            {robot.agent && <Told name="Agent now" value={robot.agent} />}
            {Object.keys(robot.fingerprint).length > 0 && (
              <Told name="When it enrolled" value={robot.fingerprint} />
            )}
          </>
        )}
      </section>
    </>
  )
}

const ROTATION = {
  operator: '',
  age: ', for it is old',
  suspicion: ', for another machine says that it is this robot',
} as const

function Changeable({ button, children }: { button: ComponentChildren; children: ComponentChildren }) {
  return (
    <span class="changeable">
      <span class="thing">{children}</span>
      {button}
    </span>
  )
}

function Labels({ labels }: { labels: Robot['labels'] }) {
  const entries = Object.entries(labels)
  if (entries.length === 0) return <span class="soft">none</span>
  return (
    <span class="labels">
      {entries.map(([name, value]) => (
        <a
          key={name}
          class="label"
          title={value === '' ? name : `${name}=${value}`}
          href={`/?${new URLSearchParams({ label: value === '' ? name : `${name}=${value}` })}`}
        >
          {name}
          {value !== '' && <span class="soft">={value}</span>}
        </a>
      ))}
    </span>
  )
}

function TokenState({ robot }: { robot: Robot }) {
  if (robot.token_revoked_at)
    return (
      <>
        <Badge tone="error">revoked</Badge> <Ago time={robot.token_revoked_at} />
      </>
    )
  if (!robot.token_issued_at) return <Badge tone="idle">none yet</Badge>
  if (robot.lifecycle === 'retired') return <Badge tone="idle">no longer of use</Badge>
  return <Badge tone="ok">valid</Badge>
}

interface Found {
  readonly name: string
  readonly kind: string
  readonly href: string
}

/** What a robot came with. Which kind of credential an id is of, only asking tells. */
function Credential({ id, robot }: { id: string | null; robot: Robot }) {
  const isSeen = may('enrollment-keys:read', robot)
  const { value, isLoading } = useLoaded<Found | undefined>(
    async (signal) => {
      if (id === null || !isSeen) return undefined
      const keyPath = `/api/enrollment-keys/${id}`
      // Its name is wanted, and its value is not: that would be one more reveal in the audit log.
      const key = await ifSeen(api.get<EnrollmentKey>(keyPath, { reveal: false }, { signal }))
      if (key) return { name: key.name, kind: 'enrollment key', href: addressOf({ kind: 'enrollment', id }) }
      const path = `/api/provisioning-tokens/${id}`
      const token = await ifSeen(api.get<ProvisioningToken>(path, {}, { signal }))
      if (token)
        return { name: token.name, kind: 'provisioning token', href: addressOf({ kind: 'provisioning', id }) }
      return undefined
    },
    [id, isSeen],
  )
  if (id === null) return <span class="soft">nobody: it was created by hand</span>
  if (value)
    return (
      <>
        <a href={value.href}>{value.name}</a> <span class="soft">({value.kind})</span>
      </>
    )
  if (isLoading) return <span class="soft">…</span>
  return (
    <span class="soft">
      a setup token, or a credential that you may not see (<code>{id.slice(0, 8)}</code>)
    </span>
  )
}

const NAMES: Readonly<Record<string, string>> = {
  hostname: 'Host name',
  os: 'System',
  platform: 'Platform',
  arch: 'Processor',
  mac: 'MAC begins',
  version: 'Version',
  agent_version: 'Agent',
}

function Told({ name, value }: { name: string; value: Readonly<Record<string, unknown>> }) {
  return (
    <div class="told">
      <h3>{name}</h3>
      <dl class="facts about">
        {linesOf(value).map(([path, text]) => (
          <Fact key={path} name={Object.hasOwn(NAMES, path) ? NAMES[path]! : path}>
            {text}
          </Fact>
        ))}
      </dl>
    </div>
  )
}
