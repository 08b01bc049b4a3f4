import { useEffect } from 'preact/hooks'
import { Button } from '../ui/button.tsx'
import { useRepeated } from '../ui/repeat.ts'
import { Empty } from '../ui/states.tsx'

const TRY_MS = 5_000
/** A page that is no better for it is not loaded again and again. */
const RELOAD_AT_MOST_EVERY_MS = 60_000
const KEY = 'beacon.loaded-again-at'

/**
 * In the place of a view whose program did not come: the server is away, or was updated since the page was opened and has
 * other files now. Loads the page again by itself once the server answers; the browser remembers what did not come.
 */
export function NotLoaded() {
  useEffect(() => {
    void loadAgainIfThere()
  }, [])
  useRepeated(() => void loadAgainIfThere(), TRY_MS)
  return (
    <Empty title="This view did not load">
      <p>
        The server cannot be reached, or it was updated since this page was opened. It is tried again by
        itself.
      </p>
      <Button onClick={() => location.reload()}>Load the page again</Button>
    </Empty>
  )
}

async function loadAgainIfThere(): Promise<void> {
  const { ok } = await fetch('/', { method: 'HEAD', cache: 'no-store' }).catch(() => ({ ok: false }))
  if (ok && isTimeToReload()) location.reload()
}

function isTimeToReload(): boolean {
  try {
    const since = Date.now() - Number(sessionStorage.getItem(KEY))
    if (since >= 0 && since < RELOAD_AT_MOST_EVERY_MS) return false
    sessionStorage.setItem(KEY, String(Date.now()))
    return true
  } catch {
    // Nothing can be kept: it stays with the button.
    return false
  }
}
