import type { WaitingRobot } from '../../api/types.ts'
import { maySomewhere } from '../../session/session.ts'
import { Badge, CONNECTION_TONE } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { type Places, placeName } from '../../ui/places.ts'
import { Ago, Lasting } from '../../ui/times.tsx'
import type { Decision } from './deciding.ts'

const KIND_NOUNS = {
  enrollment_key: 'an enrollment key',
  provisioning_token: 'a provisioning token',
  setup_token: 'its own setup token',
} as const

/** One robot that waits, with what somebody decides by. All that it says of itself may be a lie. */
export function Waiting({
  robot,
  places,
  isGone,
  isChosen,
  onChosen,
  onDecide,
}: {
  robot: WaitingRobot
  places: Places | undefined
  isGone: boolean
  isChosen: boolean
  /** Undefined where the viewer decides nothing. */
  onChosen: ((isChosen: boolean) => void) | undefined
  onDecide: (decision: Decision) => void
}) {
  const { hostname, os, platform, arch, mac, agent_version } = robot.fingerprint
  const labels = Object.entries(robot.labels)
  return (
    <li class="waiting-robot" data-gone={isGone} data-chosen={isChosen}>
      <div class="who">
        {onChosen && (
          <input
            type="checkbox"
            aria-label={`Choose ${robot.name}`}
            checked={isChosen && !isGone}
            disabled={isGone}
            onChange={(event) => onChosen(event.currentTarget.checked)}
          />
        )}
        <h2 class="wrap">
          <a href={`/robots/${robot.id}`}>{robot.name}</a>
        </h2>
        <Badge tone={robot.is_new ? 'wait' : 'warn'}>{robot.is_new ? 'new' : 'was here before'}</Badge>
        <Badge tone={CONNECTION_TONE[robot.connection]}>{robot.connection}</Badge>
        {onChosen && (
          <div class="buttons">
            {isGone ? (
              <span class="soft">waits no longer</span>
            ) : (
              <>
                <Button
                  size="small"
                  kind="primary"
                  label={`Approve ${robot.name}`}
                  onClick={() => onDecide('approve')}
                >
                  Approve
                </Button>
                <Button
                  size="small"
                  kind="danger"
                  label={`Deny ${robot.name}`}
                  onClick={() => onDecide('deny')}
                >
                  Deny
                </Button>
              </>
            )}
          </div>
        )}
      </div>
      <dl class="said">
        <Fact name="Calls itself" value={hostname} />
        <Fact name="System" value={[os ?? platform, arch].filter(Boolean).join(', ')} />
        <Fact name="MAC begins" value={mac} isCode />
        <Fact name="Agent" value={agent_version} />
        <Fact name="Came from" value={robot.address ?? undefined} isCode />
        <div>
          <dt>Came with</dt>
          <dd>
            <Credential robot={robot} />
          </dd>
        </div>
        <div>
          <dt>For</dt>
          <dd>{places && placeName(places, robot)}</dd>
        </div>
        <div>
          <dt>Has waited</dt>
          <dd>
            <Lasting since={robot.pending_since} />
          </dd>
        </div>
        <div>
          <dt>Counts as denied</dt>
          <dd>
            <Ago time={robot.expires_at} />
          </dd>
        </div>
        {labels.length > 0 && (
          <div>
            <dt>Labels</dt>
            <dd>
              {labels.map(([name, value]) => (
                <span key={name} class="tag">
                  {value === '' ? name : `${name}=${value}`}
                </span>
              ))}
            </dd>
          </div>
        )}
      </dl>
    </li>
  )
}

function Fact({ name, value, isCode }: { name: string; value: string | undefined; isCode?: boolean }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class="wrap">
        {!value ? <span class="soft">not known</span> : isCode ? <code>{value}</code> : value}
      </dd>
    </div>
  )
}

function Credential({ robot: { id, credential } }: { robot: WaitingRobot }) {
  if (!credential) return <span class="soft">something that is gone</span>
  const noun = KIND_NOUNS[credential.kind]
  if (credential.kind === 'setup_token') return <a href={`/robots/${id}`}>{noun}</a>
  if (credential.name === null || !maySomewhere('enrollment-keys:read')) return <>{noun}</>
  const kind = credential.kind === 'provisioning_token' ? 'kind=provisioning&' : ''
  return (
    <a class="wrap" title={noun} href={`/keys?${kind}id=${credential.id}`}>
      {credential.name}
    </a>
  )
}
