import { useEffect, useState } from 'preact/hooks'
import { api } from '../api/client.ts'
import { Field } from '../ui/field.tsx'
import { Form } from '../ui/form.tsx'
import { useLoaded } from '../ui/loaded.ts'
import { Shown } from '../ui/states.tsx'
import { FirstOwner } from './first-owner.tsx'
import { lookAgain } from './session.ts'

interface Ways {
  readonly oidc: boolean
  readonly second_factor: 'required' | null
}

interface Step {
  readonly signed_in: boolean
  readonly second_factor: 'required' | null
}

/** Before anything else: who are you? Where one wanted to go stays in the address. */
export function SignIn({ ended }: { ended: boolean }) {
  const ways = useLoaded<Ways>(() => api.get('/api/sign-in'), [])
  /** Undefined: as the server says. */
  const [asked, setAsked] = useState<boolean>()
  const [isFirst, setFirst] = useState(false)
  useEffect(() => {
    document.title = 'Sign in · Beacon'
  }, [])
  return (
    <main class="gate">
      <div class="panel">
        <div class="brand">
          <img src="/favicon.svg" alt="" />
          Beacon
        </div>
        {ended && (
          <p class="notice" data-tone="warn" role="alert">
            Your session is over: it ran out, it was ended elsewhere, or you were removed.
          </p>
        )}
        <Shown loaded={ways}>
          {({ oidc, second_factor }) =>
            isFirst ? (
              <FirstOwner onBack={() => setFirst(false)} />
            ) : (asked ?? second_factor === 'required') ? (
              <SecondFactor
                onDone={async () => {
                  // Where an identity provider's answer led to; what was wanted before it is not known any more.
                  if (location.hash === '#second-factor') history.replaceState(null, '', location.pathname)
                  await lookAgain()
                }}
                onBack={() => setAsked(false)}
              />
            ) : (
              <>
                <Password onStep={(step) => (step.signed_in ? lookAgain() : setAsked(true))} />
                {oidc && (
                  <a class="button" href="/api/sign-in/oidc">
                    Sign in with your organisation
                  </a>
                )}
                <button type="button" class="button quiet small" onClick={() => setFirst(true)}>
                  First time here? Use the owner token
                </button>
              </>
            )
          }
        </Shown>
      </div>
    </main>
  )
}

function Password({ onStep }: { onStep: (step: Step) => unknown }) {
  return (
    <>
      <h1>Sign in</h1>
      <Form
        action="Sign in"
        onSubmit={async ({ email, password }) =>
          onStep(await api.post<Step>('/api/sign-in', { email, password }))
        }
      >
        {(wrong) => (
          <>
            <Field name="Email" wrong={wrong('email')}>
              <input name="email" type="email" autocomplete="username" required autofocus />
            </Field>
            <Field name="Password" wrong={wrong('password')}>
              <input name="password" type="password" autocomplete="current-password" required />
            </Field>
          </>
        )}
      </Form>
    </>
  )
}

function SecondFactor({ onDone, onBack }: { onDone: () => unknown; onBack: () => void }) {
  const [isBackup, setBackup] = useState(false)
  return (
    <>
      <h1>Second factor</h1>
      <Form
        action="Continue"
        onSubmit={async ({ code }) => {
          const proof = isBackup ? { backup_code: code } : { code }
          await api.post('/api/sign-in/second-factor', proof)
          await onDone()
        }}
      >
        {(wrong) => (
          <Field
            name={isBackup ? 'Backup code' : 'Code'}
            hint={isBackup ? 'Each works once.' : 'The six digits that your authenticator shows.'}
            wrong={wrong(isBackup ? 'backup_code' : 'code')}
          >
            <input
              name="code"
              key={String(isBackup)}
              inputMode={isBackup ? 'text' : 'numeric'}
              autocomplete="one-time-code"
              required
              autofocus
            />
          </Field>
        )}
      </Form>
      <button type="button" class="button quiet small" onClick={() => setBackup(!isBackup)}>
        {isBackup ? 'Use a code instead' : 'Use a backup code instead'}
      </button>
      <button type="button" class="button quiet small" onClick={onBack}>
        Start again
      </button>
    </>
  )
}
