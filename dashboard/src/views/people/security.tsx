import { useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import type { Security as Settings } from '../../api/types.ts'
import { isOwner, lookAgain, visitor } from '../../session/session.ts'
import { Button } from '../../ui/button.tsx'
import { Confirm, Dialog } from '../../ui/dialog.tsx'
import { Field } from '../../ui/field.tsx'
import { Form } from '../../ui/form.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import { Shown } from '../../ui/states.tsx'
import { done } from '../../ui/toasts.tsx'

/** What holds for everybody; only an owner changes it. */
export function Security({
  without,
  areAllKnown,
}: {
  /** People who have no second factor, of those who are known so far. */
  without: number
  areAllKnown: boolean
}) {
  const settings = useLoaded<Settings>(() => api.get('/api/security'), [])
  const [open, setOpen] = useState<'second-factor' | 'robots'>()
  const found = visitor.value
  const hasOwn = found.kind === 'somebody' && found.who.second_factor.enabled
  const close = () => setOpen(undefined)
  return (
    <section class="panel" aria-labelledby="for-everybody">
      <h2 id="for-everybody">What holds for everybody</h2>
      <Shown loaded={settings}>
        {(now) => {
          const change = async (part: Partial<Settings>) => {
            await api.patch('/api/security', part)
            settings.reload()
            await lookAgain()
            done('Changed for everybody.')
          }
          return (
            <ul class="settings">
              <li>
                <span>
                  <strong>
                    A second factor is{' '}
                    {now.require_second_factor ? 'asked of everybody' : 'everybody’s own choice'}
                  </strong>
                  <span class="small soft">
                    {now.require_second_factor
                      ? 'Who has none may do nothing but set one up.'
                      : 'A password alone lets in whoever has not set one up.'}
                    {isOwner() && !now.require_second_factor && !hasOwn && (
                      <>
                        {' '}
                        To ask it of everybody, <a href="/account">set up your own first</a>.
                      </>
                    )}
                  </span>
                </span>
                {isOwner() && (now.require_second_factor || hasOwn) && (
                  <Button onClick={() => setOpen('second-factor')}>
                    {now.require_second_factor ? 'Leave it to everybody…' : 'Ask it of everybody…'}
                  </Button>
                )}
              </li>
              <li>
                <span>
                  <strong>
                    Robots take a new token{' '}
                    {now.robot_token_max_age_days === null
                      ? 'only when told'
                      : `every ${now.robot_token_max_age_days} days`}
                  </strong>
                  <span class="small soft">
                    {now.rotate_on_suspicion
                      ? 'And when another machine says that it is the same robot.'
                      : 'Not when another machine says that it is the same robot.'}
                  </span>
                </span>
                {isOwner() && <Button onClick={() => setOpen('robots')}>Change…</Button>}
              </li>
              {open === 'second-factor' && (
                <Confirm
                  title={
                    now.require_second_factor
                      ? 'Leave the second factor to everybody'
                      : 'Ask a second factor of everybody'
                  }
                  action={now.require_second_factor ? 'Leave it to everybody' : 'Ask it of everybody'}
                  onClose={close}
                  onConfirm={() => change({ require_second_factor: !now.require_second_factor })}
                >
                  <p>
                    {now.require_second_factor
                      ? 'Whoever has a second factor keeps it, and may remove it. Whoever has none signs in with the password alone.'
                      : 'Whoever has none may do nothing but set one up, from now on: also in sessions that go on, and with their tokens.'}
                  </p>
                  {!now.require_second_factor && without > 0 && (
                    <p>
                      {areAllKnown ? '' : 'At least '}
                      {without === 1 ? '1 person here has none.' : `${without} people here have none.`}
                    </p>
                  )}
                </Confirm>
              )}
              {open === 'robots' && (
                <Dialog title="New tokens for robots" onClose={close}>
                  <Form
                    action="Change"
                    onCancel={close}
                    onSubmit={async ({ days, suspicion }) => {
                      await change({
                        robot_token_max_age_days: days === '' ? null : Number(days),
                        rotate_on_suspicion: suspicion === 'on',
                      })
                      close()
                    }}
                  >
                    {(wrong) => (
                      <>
                        <Field
                          name="Days after which a robot takes a new token"
                          hint="Empty: only when told. Robots that are away do so when they come back."
                          wrong={wrong('robot_token_max_age_days')}
                        >
                          <input
                            name="days"
                            type="number"
                            min={1}
                            max={3650}
                            defaultValue={String(now.robot_token_max_age_days ?? '')}
                          />
                        </Field>
                        <label class="check">
                          <input type="checkbox" name="suspicion" defaultChecked={now.rotate_on_suspicion} />
                          Also when another machine says that it is the same robot
                        </label>
                      </>
                    )}
                  </Form>
                </Dialog>
              )}
            </ul>
          )
        }}
      </Shown>
    </section>
  )
}
