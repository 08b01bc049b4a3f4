import { Confirm } from '../../ui/dialog.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import { Shown } from '../../ui/states.tsx'
import { done } from '../../ui/toasts.tsx'
import { type Decision, decide, type Foreseen, foresee, type Target } from './deciding.ts'

const robots = (count: number) => `${count.toLocaleString('en')} ${count === 1 ? 'robot' : 'robots'}`
const VERBS = { approve: 'Approve', deny: 'Deny' } as const
const DONE = { approve: 'approved', deny: 'denied' } as const

/** Asks before a decision, and says what the server says would come of it. */
export function Decide({
  decision,
  target,
  onClose,
  onDecided,
}: {
  decision: Decision
  target: Target
  onClose: () => void
  onDecided: (ids: readonly string[]) => void
}) {
  const foreseen = useLoaded(() => foresee(decision, target), [])
  const value = foreseen.value
  const count = value?.ids.length ?? 0
  const what = count === 1 ? `“${value!.names[0]}”` : robots(count)
  return (
    <Confirm
      title={value ? `${VERBS[decision]} ${what}?` : VERBS[decision]}
      action={value ? `${VERBS[decision]} ${count === 1 ? 'it' : robots(count)}` : VERBS[decision]}
      danger={decision === 'deny'}
      disabled={count === 0}
      onClose={onClose}
      onConfirm={async () => {
        const { ids, skipped } = await decide(decision, value!.ids)
        const others = skipped > 0 ? ` ${robots(skipped)} had been decided about.` : ''
        done(`${robots(ids.length)} ${DONE[decision]}.${others}`)
        onDecided(value!.ids)
      }}
    >
      <Shown loaded={foreseen}>{(known) => <Says foreseen={known} />}</Shown>
    </Confirm>
  )
}

function Says({ foreseen }: { foreseen: Foreseen }) {
  const { ids, approved, removed, restored, skipped, names, isMore } = foreseen
  const isOne = ids.length === 1
  return (
    <>
      {ids.length === 0 && <p>None of them waits any more.</p>}
      {approved > 0 && (
        <p>{isOne ? 'It takes' : 'They take'} part from now on: heartbeats count and are kept.</p>
      )}
      {removed + restored > 0 && <p>The connection of each ends at once, and its agent stops.</p>}
      {(removed > 0 || restored > 0) && (
        <ul class="outcomes">
          {removed > 0 && (
            <li>
              <strong>{robots(removed)}</strong> {removed === 1 ? 'is' : 'are'} new: the record goes away, and
              what it came with gets its use back.
            </li>
          )}
          {restored > 0 && (
            <li>
              <strong>{robots(restored)}</strong> {restored === 1 ? 'was' : 'were'} here before: the record is
              again what it was, and the new token is revoked. The old one does not come back.
            </li>
          )}
        </ul>
      )}
      {ids.length > 1 && (
        <p class="small soft wrap">
          {names.join(', ')}
          {ids.length > names.length && ` and ${(ids.length - names.length).toLocaleString('en')} more`}
        </p>
      )}
      {isMore && (
        <p class="notice" data-tone="warn">
          These are the {ids.length.toLocaleString('en')} that have waited longest. More pass the filter: do
          it again for them.
        </p>
      )}
      {skipped > 0 && ids.length > 0 && (
        <p class="soft">{robots(skipped)} of the chosen wait no longer and are left alone.</p>
      )}
    </>
  )
}
