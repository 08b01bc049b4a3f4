import { useEffect, useState } from 'preact/hooks'
import { ErrorBoundary, LocationProvider, Route, Router } from 'preact-iso'
import { againAfterMs } from './api/problem.ts'
import { AcceptInvitation } from './session/accept-invitation.tsx'
import { MustSetUp } from './session/must-set-up.tsx'
import {
  isSettingUp,
  lookAgain,
  lookIfIdle,
  maySomewhere,
  visitor,
  watchForTheEnd,
  watchStanding,
} from './session/session.ts'
import { SignIn } from './session/sign-in.tsx'
import { Shell } from './shell.tsx'
import { startClock } from './ui/clock.ts'
import { useRepeated } from './ui/repeat.ts'
import { Empty, Failure, Loading } from './ui/states.tsx'
import { PAGES } from './views/pages.ts'

export function App() {
  useEffect(() => {
    const stopClock = startClock()
    const stopWatch = watchForTheEnd()
    const stopLooking = watchStanding()
    void lookAgain()
    return () => {
      stopClock()
      stopWatch()
      stopLooking()
    }
  }, [])
  const found = visitor.value
  useRepeated(lookIfIdle, found.kind === 'failed' ? againAfterMs(found.error) : undefined)
  // Also for somebody who is signed in already: the invitation may be another's.
  if (location.pathname === '/accept-invitation') return <AcceptInvitation />
  if (found.kind === 'unknown') return <Loading what="Signing in" />
  if (found.kind === 'failed')
    return (
      <main class="gate">
        <Failure error={found.error} onRetry={lookAgain} />
      </main>
    )
  if (found.kind === 'nobody') return <SignIn ended={found.ended} />
  if (isSettingUp.value) return <MustSetUp who={found.who} />
  return (
    <LocationProvider>
      <Shell>
        <Pages />
      </Shell>
    </LocationProvider>
  )
}

function Pages() {
  const [error, setError] = useState<unknown>()
  if (error !== undefined) return <Failure error={error} onRetry={() => location.reload()} />
  return (
    <ErrorBoundary onError={setError}>
      <Router
        onRouteChange={() => document.querySelector<HTMLElement>('#content')?.focus({ preventScroll: true })}
      >
        {PAGES.map(({ path, scope, component }) => (
          <Route key={path} path={path} component={scope && !maySomewhere(scope) ? NotYours : component} />
        ))}
        <Route default component={NotFound} />
      </Router>
    </ErrorBoundary>
  )
}

function NotYours() {
  return (
    <Empty title="This is not yours to see">
      <p>Your roles do not reach it. Whoever manages people here can change that.</p>
      <a href="/account">See your roles</a>
    </Empty>
  )
}

function NotFound() {
  return (
    <Empty title="There is nothing here">
      <a href="/">Go to the fleet</a>
    </Empty>
  )
}
