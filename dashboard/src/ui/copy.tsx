import { useEffect, useState } from 'preact/hooks'
import { Button } from './button.tsx'

/** Puts text on the clipboard, and says so. */
export function Copy({ text, what = 'Copy' }: { text: string; what?: string }) {
  const [isCopied, setCopied] = useState(false)
  useEffect(() => {
    if (!isCopied) return
    const timer = setTimeout(() => setCopied(false), 2_000)
    return () => clearTimeout(timer)
  }, [isCopied])
  return (
    <Button
      size="small"
      onClick={async () => {
        await copyText(text)
        setCopied(true)
      }}
    >
      <span aria-live="polite">{isCopied ? 'Copied' : what}</span>
    </Button>
  )
}

/** The clipboard's own interface is there over HTTPS and on this machine only. */
async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text)
  const area = document.createElement('textarea')
  area.value = text
  // Inside an open dialog, for everything outside of it cannot be selected.
  const around = document.querySelector('dialog[open]') ?? document.body
  around.append(area)
  area.select()
  const isDone = document.execCommand('copy')
  area.remove()
  if (!isDone) throw new Error('The browser did not let the text be copied: select it and copy it by hand')
}

/** A secret that is shown once, or a command that holds one. */
export function Secret({ text, what, note }: { text: string; what: string; note?: string }) {
  return (
    <div class="secret">
      <div class="row apart">
        <strong>{what}</strong>
        <Copy text={text} />
      </div>
      <pre>
        <code>{text}</code>
      </pre>
      {note && <p class="small soft">{note}</p>}
    </div>
  )
}
