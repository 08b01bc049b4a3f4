import { useEffect } from 'preact/hooks'
import type { WhoAmI } from '../api/types.ts'
import { Button } from '../ui/button.tsx'
import { Toasts } from '../ui/toasts.tsx'
import { SetUpSecondFactor } from './second-factor.tsx'
import { finishSettingUp, signOut } from './session.ts'

/** Where everybody has to have a second factor, nothing comes before it. */
export function MustSetUp({ who }: { who: WhoAmI }) {
  useEffect(() => {
    document.title = 'Set up a second factor · Beacon'
  }, [])
  return (
    <main class="gate">
      <div class="panel">
        <div class="brand">
          <img src="/favicon.svg" alt="" />
          Beacon
        </div>
        <h1>Set up a second factor</h1>
        <p>Everybody has to have one here, {who.user.name}: it comes before anything else.</p>
        <SetUpSecondFactor onDone={finishSettingUp} />
        <Button kind="quiet" size="small" onClick={signOut}>
          Sign out
        </Button>
      </div>
      <Toasts />
    </main>
  )
}
