import { useState } from 'preact/hooks'
import { api } from '../api/client.ts'
import { Field } from '../ui/field.tsx'
import { Form } from '../ui/form.tsx'
import { useLoaded } from '../ui/loaded.ts'
import { Shown } from '../ui/states.tsx'
import { lookAgain } from './session.ts'

interface Accepted {
  readonly user: { readonly name: string; readonly email: string | null }
}

/** Where an invitation leads: its token stands behind the `#`, so that no server's log sees it. */
export function AcceptInvitation() {
  const [token] = useState(() => location.hash.slice(1))
  const [accepted, setAccepted] = useState<Accepted>()
  const ways = useLoaded<{ oidc: boolean }>(() => api.get('/api/sign-in'), [])
  const accept = async (body: Record<string, string>) => {
    const answer = await api.post<Accepted>('/api/invitations/accept', { token, ...body })
    // It is used up, and nobody needs to see it in the address.
    history.replaceState(null, '', '/accept-invitation')
    if (body.password && answer.user.email) {
      const step = await api.post<{ signed_in: boolean }>('/api/sign-in', {
        email: answer.user.email,
        password: body.password,
      })
      history.replaceState(null, '', '/')
      if (step.signed_in) return lookAgain()
    }
    setAccepted(answer)
  }
  return (
    <main class="gate">
      <div class="panel">
        <div class="brand">
          <img src="/favicon.svg" alt="" />
          Beacon
        </div>
        {accepted ? (
          <>
            <h1>Welcome, {accepted.user.name}</h1>
            <a class="button primary" href="/">
              Sign in
            </a>
          </>
        ) : token === '' ? (
          <>
            <h1>No invitation</h1>
            <p>The address lacks what stands behind its “#”. Copy all of it from the invitation.</p>
          </>
        ) : (
          <>
            <h1>You are invited</h1>
            <Form
              action="Accept"
              onSubmit={({ name, password }) => accept({ password: password!, ...(name ? { name } : {}) })}
            >
              {(wrong) => (
                <>
                  <Field
                    name="Your name"
                    hint="Leave it empty to keep what the invitation says."
                    wrong={wrong('name')}
                  >
                    <input name="name" autocomplete="name" />
                  </Field>
                  <Field name="Password" hint="At least twelve characters." wrong={wrong('password')}>
                    <input
                      name="password"
                      type="password"
                      autocomplete="new-password"
                      required
                      minlength={12}
                      autofocus
                    />
                  </Field>
                </>
              )}
            </Form>
            <Shown loaded={ways}>
              {({ oidc }) =>
                oidc && (
                  <Form action="Accept and sign in with your organisation" onSubmit={() => accept({})}>
                    {() => null}
                  </Form>
                )
              }
            </Shown>
          </>
        )}
      </div>
    </main>
  )
}
