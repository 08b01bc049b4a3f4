import { useEffect, useRef, useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import type { AuditVerification } from '../../api/types.ts'
import { Button } from '../../ui/button.tsx'
import { Copy } from '../../ui/copy.tsx'
import { Dialog } from '../../ui/dialog.tsx'
import { Field } from '../../ui/field.tsx'
import { Form } from '../../ui/form.tsx'

interface Progress {
  readonly checked: number
  /** The last answer: there is nothing more to look at. */
  readonly last?: AuditVerification
}

/** Has the server recompute every hash of the log, and says whether somebody changed it. */
export function VerifyAudit({ onClose }: { onClose: () => void }) {
  const [progress, setProgress] = useState<Progress>()
  const ending = useRef(new AbortController())
  useEffect(() => () => ending.current.abort(), [])
  const verify = async (expect: string) => {
    const { signal } = ending.current
    let checked = 0
    let cursor: string | null = null
    setProgress({ checked })
    try {
      do {
        const answer: AuditVerification = await api.get(
          '/api/audit/verify',
          { cursor, ...(expect === '' ? {} : { expect }) },
          { signal },
        )
        checked += answer.checked
        cursor = answer.next_cursor
        if (!signal.aborted) setProgress({ checked, ...(cursor === null ? { last: answer } : {}) })
      } while (cursor !== null && !signal.aborted)
    } catch (error) {
      if (signal.aborted) return
      setProgress(undefined)
      throw error
    }
  }
  const last = progress?.last
  const head = last?.head && `${last.head.seq}:${last.head.hash}`
  return (
    <Dialog title="Verify the audit log" onClose={onClose}>
      <p class="soft">
        Each line holds a hash of itself and of the line before, so a line that was changed or taken away
        shows. Note the newest line elsewhere now and then: with it, one also sees that the end was cut off.
      </p>
      {progress && (
        <div class="notice" data-tone={last ? (last.finding ? 'error' : 'ok') : 'idle'} role="status">
          {last ? (
            last.finding ? (
              <>
                <strong>Line {last.finding.seq.toLocaleString('en')} is wrong</strong>
                <span>
                  {last.finding.detail} <code>{last.finding.flaw}</code>
                </span>
              </>
            ) : (
              <strong>All {progress.checked.toLocaleString('en')} lines are as they were written.</strong>
            )
          ) : (
            <span>{progress.checked.toLocaleString('en')} lines so far…</span>
          )}
          {head && !last.finding && (
            <span class="small wrap">
              The newest line, to be noted: <code>{head}</code> <Copy text={head} />
            </span>
          )}
        </div>
      )}
      <Form
        action={progress ? 'Verify again' : 'Verify'}
        onSubmit={({ expect = '' }) => verify(expect.trim())}
      >
        {(wrong) => (
          <Field
            name="A line noted earlier"
            hint="Its number and hash, 123:9f86d0…; may be empty."
            wrong={wrong('expect')}
          >
            <input
              name="expect"
              autocomplete="off"
              spellcheck={false}
              maxLength={100}
              pattern="\s*\d{1,16}:[0-9A-Fa-f]{64}\s*"
              title="number:hash"
            />
          </Field>
        )}
      </Form>
      <div class="actions">
        <Button onClick={onClose}>Close</Button>
      </div>
    </Dialog>
  )
}
