import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { describe, Problem } from '../../api/problem.ts'
import type { Fleet, Robot } from '../../api/types.ts'
import {
  APPROVE,
  BACK_TO_WORK,
  isInService,
  label,
  MAINTENANCE,
  MOVE_SAYS,
  move,
  RETIRE,
  REVOKE_TOKEN,
} from '../../robots/deeds.ts'
import { may } from '../../session/session.ts'
import { Button } from '../../ui/button.tsx'
import { Confirm, Dialog } from '../../ui/dialog.tsx'
import { Field, textsOf } from '../../ui/field.tsx'
import { done } from '../../ui/toasts.tsx'

type Change = (robot: Robot) => Promise<unknown>

interface Deed {
  readonly name: string
  readonly danger?: boolean
  /** What will happen, for a person. */
  readonly says: ComponentChildren
  /** Which of the chosen robots it is for; the rest is left alone, and that is said. */
  readonly fits: (robot: Robot) => boolean
  readonly change: Change
  /** What to ask before, and the change that the answers make. */
  readonly ask?: (fleets: readonly Fleet[]) => {
    readonly fields: ComponentChildren
    readonly change: (texts: Record<string, string>) => Change
  }
}

const unasked: Change = () => Promise.reject(new Error('nothing was asked'))

const DEEDS: readonly Deed[] = [
  {
    name: 'Label',
    says: 'Each robot keeps its other labels. A label that is there already gets the new value.',
    fits: isInService,
    change: unasked,
    ask: () => ({
      fields: (
        <>
          <Field name="Label" hint="Letters, digits and . _ / -">
            <input name="label" required maxLength={63} autofocus />
          </Field>
          <Field name="Value" hint="May be empty.">
            <input name="value" maxLength={256} />
          </Field>
          <label class="check">
            <input type="checkbox" name="remove" />
            Take the label away instead
          </label>
        </>
      ),
      change: (texts) => (robot) =>
        label(
          robot,
          texts.remove
            ? { set: {}, remove: [texts.label!] }
            : { set: { [texts.label!]: texts.value ?? '' }, remove: [] },
        ),
    }),
  },
  {
    name: 'Move',
    says: MOVE_SAYS,
    fits: isInService,
    change: unasked,
    ask: (fleets) => ({
      fields: (
        <Field name="To the fleet">
          <select name="fleet_id" required>
            {fleets.map((fleet) => (
              <option key={fleet.id} value={fleet.id}>
                {fleet.name}
              </option>
            ))}
          </select>
        </Field>
      ),
      change: (texts) => (robot) => move(robot, texts.fleet_id!),
    }),
  },
  { name: 'Maintenance', ...MAINTENANCE },
  { name: 'Back to work', ...BACK_TO_WORK },
  { name: 'Approve', ...APPROVE },
  { name: 'Revoke', ...REVOKE_TOKEN },
  { name: 'Retire', ...RETIRE },
]

/** Changes on their way at the same time. */
const AT_ONCE = 4
/** What is wrong with too many changes in a second passes in the next ones. */
const LIMITED_MS = 1_500

interface Outcome {
  readonly done: number
  readonly failures: readonly { readonly robot: Robot; readonly error: unknown }[]
}

async function forEach(
  robots: readonly Robot[],
  change: Change,
  tell: (done: number) => void,
): Promise<Outcome> {
  const waiting = [...robots]
  const failures: { robot: Robot; error: unknown }[] = []
  let finished = 0
  const worker = async () => {
    for (let robot = waiting.shift(); robot; robot = waiting.shift()) {
      try {
        await change(robot)
      } catch (error) {
        if (error instanceof Problem && error.code === 'rate_limited') {
          waiting.push(robot)
          await new Promise((resolve) => setTimeout(resolve, LIMITED_MS))
          continue
        }
        failures.push({ robot, error })
      }
      tell(++finished)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  return { done: robots.length - failures.length, failures }
}

const some = (count: number) => `${count.toLocaleString()} ${count === 1 ? 'robot' : 'robots'}`

/** What can be done with the chosen robots. */
export function BulkActions({
  robots,
  fleets,
  onAll,
  onDone,
  onClear,
}: {
  robots: readonly Robot[]
  fleets: readonly Fleet[]
  /** Chooses the robots too that were not loaded yet; undefined when there are none. */
  onAll: (() => Promise<void>) | undefined
  /** Something was changed; with the robots whose change failed. */
  onDone: (failed: readonly Robot[]) => void
  onClear: () => void
}) {
  const [deed, setDeed] = useState<Deed>()
  const [outcome, setOutcome] = useState<Outcome>()
  const changeable = robots.filter((robot) => may('robots:write', robot))
  return (
    <div class="bulk" role="toolbar" aria-label="With the chosen robots">
      <strong aria-live="polite">{some(robots.length)} chosen</strong>
      {DEEDS.map((each) => (
        <Button
          key={each.name}
          size="small"
          kind={each.danger ? 'danger' : 'plain'}
          disabled={!changeable.some(each.fits)}
          onClick={() => setDeed(each)}
        >
          {each.name}
        </Button>
      ))}
      {onAll && (
        <Button size="small" kind="quiet" onClick={onAll}>
          Choose all that pass the filter
        </Button>
      )}
      <Button size="small" kind="quiet" onClick={onClear}>
        Choose none
      </Button>
      {deed && (
        <Ask
          deed={deed}
          robots={changeable.filter(deed.fits)}
          leftAlone={robots.length - changeable.filter(deed.fits).length}
          fleets={fleets.filter((fleet) =>
            may('robots:write', { site_id: fleet.site_id, fleet_id: fleet.id }),
          )}
          onClose={() => setDeed(undefined)}
          onOutcome={(result) => {
            if (result.failures.length === 0) done(`${deed.name}: ${some(result.done)}`)
            else setOutcome(result)
            onDone(result.failures.map(({ robot }) => robot))
          }}
        />
      )}
      {outcome && (
        <Dialog
          title={`${some(outcome.failures.length)} could not be changed`}
          onClose={() => setOutcome(undefined)}
        >
          <p>{some(outcome.done)} changed.</p>
          <ul class="failures">
            {outcome.failures.map(({ robot, error }) => (
              <li key={robot.id}>
                <strong>{robot.name}</strong>: {describe(error)}
              </li>
            ))}
          </ul>
          <div class="actions">
            <Button kind="primary" onClick={() => setOutcome(undefined)}>
              Close
            </Button>
          </div>
        </Dialog>
      )}
    </div>
  )
}

function Ask({
  deed,
  robots,
  leftAlone,
  fleets,
  onClose,
  onOutcome,
}: {
  deed: Deed
  robots: readonly Robot[]
  leftAlone: number
  fleets: readonly Fleet[]
  onClose: () => void
  onOutcome: (outcome: Outcome) => void
}) {
  const [finished, setFinished] = useState<number>()
  const asked = deed.ask?.(fleets)
  const form = 'bulk-form'
  return (
    <Confirm
      title={`${deed.name}: ${some(robots.length)}?`}
      action={
        finished === undefined ? `${deed.name} ${some(robots.length)}` : `${finished} of ${robots.length}`
      }
      danger={deed.danger === true}
      onClose={onClose}
      onConfirm={async () => {
        let change = deed.change
        if (asked) {
          const element = document.getElementById(form) as HTMLFormElement
          if (!element.reportValidity()) throw new Error('Something is missing')
          change = asked.change(Object.fromEntries(new FormData(element)) as Record<string, string>)
        }
        setFinished(0)
        onOutcome(await forEach(robots, change, setFinished))
      }}
    >
      <p>{deed.says}</p>
      {leftAlone > 0 && (
        <p class="soft">
          {some(leftAlone)} of the chosen {leftAlone === 1 ? 'is' : 'are'} left alone: this does not fit, or
          you may not do it there.
        </p>
      )}
      <p class="names small">
        {robots
          .slice(0, 8)
          .map(({ name }) => name)
          .join(', ')}
        {robots.length > 8 && ` and ${robots.length - 8} more`}
      </p>
      {asked && (
        <form id={form} class="stack" onSubmit={textsOf}>
          {asked.fields}
        </form>
      )}
    </Confirm>
  )
}
