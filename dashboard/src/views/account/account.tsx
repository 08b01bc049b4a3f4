import { useState } from 'preact/hooks'
import type { WhoAmI } from '../../api/types.ts'
import { RemoveSecondFactor, RenewBackupCodes, SetUpSecondFactor } from '../../session/second-factor.tsx'
import { lookAgain, maySomewhere, visitor } from '../../session/session.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { Dialog } from '../../ui/dialog.tsx'
import { PageHead } from '../../ui/page-head.tsx'
import { placeName, usePlaces } from '../../ui/places.ts'
import { chooseTheme, type Theme, theme } from '../../ui/theme.ts'
import { done } from '../../ui/toasts.tsx'
import { ROLE_SAYS } from '../people/role-words.ts'
import './account.css'
import { ChangePassword } from './password.tsx'
import { Sessions } from './sessions.tsx'

/** Who one is here, how one signs in, where one is signed in, and how the page looks. */
export function Account() {
  const found = visitor.value
  if (found.kind !== 'somebody') return null
  const { who } = found
  return (
    <>
      <PageHead title="Your account">
        {maySomewhere('robots:read') && (
          <a class="button" href="/tokens">
            Your tokens
          </a>
        )}
      </PageHead>
      <div class="account">
        <WhoYouAre who={who} />
        <HowYouSignIn who={who} />
        <Sessions />
        <Looks />
      </div>
    </>
  )
}

function WhoYouAre({ who }: { who: WhoAmI }) {
  const places = usePlaces()
  return (
    <section class="panel" aria-labelledby="who-you-are">
      <h2 id="who-you-are">Who you are</h2>
      <dl class="facts">
        <dt>Name</dt>
        <dd>{who.user.name}</dd>
        <dt>Email</dt>
        <dd>{who.user.email ?? <span class="soft">none</span>}</dd>
        <dt>Roles</dt>
        <dd>
          {who.roles.length === 0 && <span class="soft">none: ask whoever manages people here</span>}
          <ul class="roles-of-yours">
            {who.roles.map((role) => (
              <li key={`${role.site_id} ${role.fleet_id}`}>
                {role.role} of {places.value ? placeName(places.value, role) : '…'}
                <span class="small soft"> · {ROLE_SAYS[role.role]}</span>
              </li>
            ))}
          </ul>
        </dd>
      </dl>
    </section>
  )
}

type Open = 'password' | 'set-up' | 'renew' | 'remove'

function HowYouSignIn({ who }: { who: WhoAmI }) {
  const [open, setOpen] = useState<Open>()
  const { enabled, required, backup_codes_left: left } = who.second_factor
  const close = () => setOpen(undefined)
  const finish = (says: string) => async () => {
    await lookAgain()
    close()
    done(says)
  }
  return (
    <section class="panel" aria-labelledby="how-you-sign-in">
      <h2 id="how-you-sign-in">How you sign in</h2>
      <ul class="ways">
        <li>
          <span>
            <strong>Password</strong>
            <span class="small soft">
              {who.has_password ? 'You have one.' : 'You have none: you sign in with your organisation.'}
            </span>
          </span>
          <Button onClick={() => setOpen('password')}>{who.has_password ? 'Change…' : 'Choose one…'}</Button>
        </li>
        <li>
          <span>
            <span class="row">
              <strong>Second factor</strong>
              {enabled ? <Badge tone="ok">on</Badge> : <Badge tone="idle">off</Badge>}
            </span>
            <span class="small soft">
              {enabled
                ? `${left} backup ${left === 1 ? 'code' : 'codes'} left.${required ? ' Everybody has to have one here.' : ''}`
                : 'A code from an authenticator app, besides the password. Other sessions of yours end when it is turned on.'}
            </span>
            {enabled && left <= 2 && (
              <span class="small">
                <Badge tone="warn">make new backup codes</Badge>
              </span>
            )}
          </span>
          <span class="row">
            {!enabled && (
              <Button kind="primary" onClick={() => setOpen('set-up')}>
                Set up…
              </Button>
            )}
            {enabled && <Button onClick={() => setOpen('renew')}>New backup codes…</Button>}
            {enabled && !required && (
              <Button kind="danger" onClick={() => setOpen('remove')}>
                Remove…
              </Button>
            )}
          </span>
        </li>
      </ul>
      {open === 'password' && (
        <Dialog title={who.has_password ? 'Change your password' : 'Choose a password'} onClose={close}>
          <ChangePassword who={who} onDone={finish('Your password is changed.')} onCancel={close} />
        </Dialog>
      )}
      {open === 'set-up' && (
        <Dialog title="Set up a second factor" onClose={close}>
          <SetUpSecondFactor onDone={finish('The second factor is on.')} />
        </Dialog>
      )}
      {open === 'renew' && (
        <Dialog title="New backup codes" onClose={close}>
          <RenewBackupCodes onDone={finish('The new backup codes count.')} onCancel={close} />
        </Dialog>
      )}
      {open === 'remove' && (
        <Dialog title="Remove the second factor" onClose={close}>
          <RemoveSecondFactor onDone={finish('The second factor is removed.')} onCancel={close} />
        </Dialog>
      )}
    </section>
  )
}

const THEMES: readonly { readonly value: Theme; readonly text: string }[] = [
  { value: 'system', text: 'As the system has it' },
  { value: 'light', text: 'Light' },
  { value: 'dark', text: 'Dark' },
]

function Looks() {
  return (
    <section class="panel" aria-labelledby="looks">
      <h2 id="looks">How the page looks</h2>
      <fieldset class="row themes">
        <legend class="visually-hidden">Colours, in this browser</legend>
        {THEMES.map(({ value, text }) => (
          <label key={value} class="check">
            <input
              type="radio"
              name="theme"
              value={value}
              checked={theme.value === value}
              onChange={() => chooseTheme(value)}
            />
            {text}
          </label>
        ))}
      </fieldset>
    </section>
  )
}
