import type { ComponentChildren } from 'preact'
import type { Robot } from '../../api/types.ts'
import { Badge, Health, type Tone } from '../../ui/badge.tsx'
import { now } from '../../ui/clock.ts'
import { duration } from '../../ui/duration.ts'
import { Ago } from '../../ui/times.tsx'
import { formatNumber } from './fields.ts'
import { linesOf, oldAfterMs, type Part, type Said } from './said.ts'

/** More metrics than these take the whole row. */
const WIDE_FROM = 8

/** What the robot says now, each part as old as it is. */
export function Says({ robot, said, heartbeatMs }: { robot: Robot; said: Said; heartbeatMs: number }) {
  const { heartbeat } = robot
  const part = (name: string, of: Part, children: ComponentChildren, isWide = false) => (
    <SaidPart name={name} at={said[of]?.at} heartbeatMs={heartbeatMs} isWide={isWide}>
      {children}
    </SaidPart>
  )
  if (!heartbeat)
    return (
      <section class="panel" aria-labelledby="says-title">
        <h2 id="says-title">Now</h2>
        <p class="soft">
          {robot.lifecycle === 'pending'
            ? 'What it says is kept once it is approved.'
            : 'It has not sent a heartbeat yet.'}
        </p>
      </section>
    )
  const { health, mode, activity, battery, pose, system, network, estop, faults, metrics } = said
  return (
    <section class="panel" aria-labelledby="says-title">
      <div class="row apart says-head">
        <h2 id="says-title">Now</h2>
        <span class="small soft">
          heard <Ago time={heartbeat.received_at} />
          {heartbeat.clock_unsure === true && ', by a clock that was never compared'}
        </span>
      </div>
      <div class="says">
        {part(
          'State',
          health ? 'health' : activity ? 'activity' : 'mode',
          <dl class="facts">
            <Fact name="Health">
              <Health health={health?.value ?? 'unknown'} />
            </Fact>
            {estop && (
              <Fact name="E-stop">
                {estop.value ? <Badge tone="error">pressed</Badge> : <Badge tone="ok">released</Badge>}
              </Fact>
            )}
            {mode && <Fact name="Mode">{mode.value}</Fact>}
            {activity && (
              <Fact name="Doing">
                <span class="clamped" title={activity.value}>
                  {activity.value}
                </span>
              </Fact>
            )}
          </dl>,
        )}
        {faults && part('Faults', 'faults', <Faults faults={faults.value} />)}
        {battery &&
          part(
            'Battery',
            'battery',
            <dl class="facts">
              <Fact name="Charge">
                <Share field="battery.charge" value={battery.value.charge} isGoodWhenHigh />
              </Fact>
              {battery.value.charging !== undefined && (
                <Fact name="Charging">{battery.value.charging ? 'yes' : 'no'}</Fact>
              )}
              {battery.value.voltage !== undefined && (
                <Fact name="Voltage">{formatNumber('battery.voltage', battery.value.voltage)}</Fact>
              )}
            </dl>,
          )}
        {system && part('Computer', 'system', <System system={system.value} />)}
        {pose &&
          part(
            'Position',
            'pose',
            <dl class="facts numbers">
              {'frame' in pose.value ? (
                <>
                  <Fact name="Frame">{pose.value.frame}</Fact>
                  <Fact name="x, y">
                    {formatNumber('pose.x', pose.value.x)}, {formatNumber('pose.y', pose.value.y)}
                  </Fact>
                  <Fact name="Heading">{Math.round((pose.value.theta * 180) / Math.PI)}°</Fact>
                </>
              ) : (
                <Fact name="Lat, lon">
                  {formatNumber('pose.lat', pose.value.lat)}, {formatNumber('pose.lon', pose.value.lon)}
                </Fact>
              )}
            </dl>,
          )}
        {network && part('Network', 'network', <Lines value={network.value} />)}
        {metrics &&
          Object.keys(metrics.value).length > 0 &&
          part(
            'Own metrics',
            'metrics',
            <dl class="facts numbers many">
              {Object.entries(metrics.value).map(([name, value]) => (
                <Fact key={name} name={name}>
                  {formatNumber(`metrics.${name}`, value)}
                </Fact>
              ))}
            </dl>,
            Object.keys(metrics.value).length > WIDE_FROM,
          )}
      </div>
    </section>
  )
}

export function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <>
      <dt title={name}>{name}</dt>
      <dd>{children}</dd>
    </>
  )
}

function SaidPart({
  name,
  at,
  heartbeatMs,
  isWide,
  children,
}: {
  name: string
  at: string | undefined
  heartbeatMs: number
  isWide: boolean
  children: ComponentChildren
}) {
  const ageMs = at ? now.value - Date.parse(at) : 0
  const isOld = ageMs > oldAfterMs(heartbeatMs)
  return (
    <div class="said" data-old={isOld} data-wide={isWide}>
      <div class="said-head">
        <h3>{name}</h3>
        {isOld && <Badge tone="warn">old: {duration(ageMs / 1_000)}</Badge>}
      </div>
      {children}
    </div>
  )
}

/** Part of a whole, as a bar and a number. */
function Share({
  field,
  value,
  isGoodWhenHigh = false,
}: {
  field: string
  value: number
  isGoodWhenHigh?: boolean
}) {
  const text = formatNumber(field, value)
  const limits = isGoodWhenHigh ? { low: 0.2, high: 0.4, optimum: 1 } : { low: 0.75, high: 0.9, optimum: 0 }
  return (
    <span class="share">
      <meter min={0} max={1} {...limits} value={value} aria-label={text} />
      <span class="numbers">{text}</span>
    </span>
  )
}

function System({ system }: { system: NonNullable<Said['system']>['value'] }) {
  const { cpu, memory, disk, temperature_c: temperature, load_1m: load, uptime_s: uptime } = system
  return (
    <dl class="facts">
      {cpu !== undefined && (
        <Fact name="CPU">
          <Share field="system.cpu" value={cpu} />
        </Fact>
      )}
      {memory !== undefined && (
        <Fact name="Memory">
          <Share field="system.memory" value={memory} />
        </Fact>
      )}
      {disk !== undefined && (
        <Fact name="Disk">
          <Share field="system.disk" value={disk} />
        </Fact>
      )}
      {temperature !== undefined && (
        <Fact name="Temperature">{formatNumber('system.temperature_c', temperature)}</Fact>
      )}
      {load !== undefined && <Fact name="Load, 1 min">{formatNumber('system.load_1m', load)}</Fact>}
      {uptime !== undefined && <Fact name="Running for">{duration(uptime)}</Fact>}
    </dl>
  )
}

const LEVEL_TONE: Readonly<Record<string, Tone>> = { warn: 'warn', error: 'error', fatal: 'error' }

function Faults({ faults }: { faults: NonNullable<Said['faults']>['value'] }) {
  if (faults.length === 0) return <p class="soft">None.</p>
  return (
    <ul class="faults">
      {faults.map((fault, index) => (
        <li key={`${fault.code} ${index}`}>
          <Badge tone={LEVEL_TONE[fault.level] ?? 'idle'}>{fault.level}</Badge> <strong>{fault.code}</strong>
          {fault.message && (
            <span class="clamped" title={fault.message}>
              {fault.message}
            </span>
          )}
          <span class="small soft">
            raised <Ago time={fault.since} />
          </span>
        </li>
      ))}
    </ul>
  )
}

/** Whatever the robot says, line by line. */
function Lines({ value }: { value: unknown }) {
  return (
    <dl class="facts">
      {linesOf(value).map(([path, text]) => (
        <Fact key={path} name={path}>
          <span class="clamped" title={text}>
            {text}
          </span>
        </Fact>
      ))}
    </dl>
  )
}
