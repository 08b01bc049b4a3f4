import { useState } from 'preact/hooks'
import { api } from '../api/client.ts'
import { Button } from '../ui/button.tsx'
import { Copy, Secret } from '../ui/copy.tsx'
import { Field } from '../ui/field.tsx'
import { Form } from '../ui/form.tsx'
import { useLoaded } from '../ui/loaded.ts'
import { QrCode } from '../ui/qr-code.tsx'
import { Shown } from '../ui/states.tsx'
import './second-factor.css'

interface Started {
  readonly secret: string
  readonly otpauth_uri: string
}

interface BackupCodes {
  readonly backup_codes: readonly string[]
}

/** From a new secret, over the first code, to backup codes that were put away. Starting over makes another secret. */
export function SetUpSecondFactor({ onDone }: { onDone: () => unknown }) {
  const [codes, setCodes] = useState<readonly string[]>()
  const started = useLoaded<Started>(() => api.post('/api/session/second-factor'), [])
  if (codes) return <NewBackupCodes codes={codes} onDone={onDone} />
  return (
    <Shown loaded={started}>
      {({ secret, otpauth_uri }) => (
        <div class="stack">
          <p>Scan this with an authenticator app, and type the six digits that it shows.</p>
          <QrCode text={otpauth_uri} title="The secret, for an authenticator app to scan" />
          <details class="small">
            <summary>Type the secret by hand instead</summary>
            <p class="row apart typed-secret">
              <code>{secret.replace(/(.{4})(?=.)/g, '$1 ')}</code>
              <Copy text={secret} />
            </p>
            <p>
              On this machine: <a href={otpauth_uri}>open it in an authenticator</a>. It is a time-based code
              (TOTP).
            </p>
          </details>
          <Form
            action="Turn it on"
            onSubmit={async ({ code }) => {
              const answer = await api.post<BackupCodes>('/api/session/second-factor/confirm', {
                code: code!.replace(/\s/g, ''),
              })
              setCodes(answer.backup_codes)
            }}
          >
            {(wrong) => <Code wrong={wrong('code')} />}
          </Form>
        </div>
      )}
    </Shown>
  )
}

function Code({ wrong }: { wrong: string | undefined }) {
  return (
    <Field name="Code" wrong={wrong}>
      <input
        name="code"
        inputMode="numeric"
        autocomplete="one-time-code"
        pattern="\s*(\d\s*){6}"
        title="Six digits"
        required
        autofocus
      />
    </Field>
  )
}

function NewBackupCodes({ codes, onDone }: { codes: readonly string[]; onDone: () => unknown }) {
  return (
    <div class="stack">
      <p class="notice" data-tone="warn">
        Put these away now: they are not shown again. Each lets you in once, in place of a code, should you
        lose your authenticator.
      </p>
      <Secret what="Backup codes" text={codes.join('\n')} />
      <div class="row">
        <Button kind="primary" onClick={async () => onDone()}>
          I have put them away
        </Button>
      </div>
    </div>
  )
}

/** New backup codes in place of the old ones, for a code. */
export function RenewBackupCodes({ onDone, onCancel }: { onDone: () => unknown; onCancel: () => void }) {
  const [codes, setCodes] = useState<readonly string[]>()
  if (codes) return <NewBackupCodes codes={codes} onDone={onDone} />
  return (
    <>
      <p>The backup codes that you have stop working.</p>
      <Proof
        action="Make new ones"
        onCancel={onCancel}
        onProof={async (proof) => {
          const answer = await api.post<BackupCodes>('/api/session/second-factor/backup-codes', proof)
          setCodes(answer.backup_codes)
        }}
      />
    </>
  )
}

export function RemoveSecondFactor({ onDone, onCancel }: { onDone: () => unknown; onCancel: () => void }) {
  return (
    <>
      <p>From then on the password alone is enough to sign in as you. Your backup codes are void.</p>
      <Proof
        action="Remove it"
        danger
        onCancel={onCancel}
        onProof={async (proof) => {
          await api.post('/api/session/second-factor/remove', proof)
          await onDone()
        }}
      />
    </>
  )
}

/** Asks for a code of the time or a backup code. */
function Proof({
  action,
  danger = false,
  onProof,
  onCancel,
}: {
  action: string
  danger?: boolean
  onProof: (proof: { code: string } | { backup_code: string }) => Promise<unknown>
  onCancel: () => void
}) {
  return (
    <Form
      action={action}
      danger={danger}
      onCancel={onCancel}
      onSubmit={({ code = '' }) => {
        const digits = code.replace(/\s/g, '')
        return onProof(/^\d{6}$/.test(digits) ? { code: digits } : { backup_code: code.trim() })
      }}
    >
      {(wrong) => (
        <Field
          name="Code"
          hint="What your authenticator shows, or one of your backup codes."
          wrong={wrong('code') ?? wrong('backup_code')}
        >
          <input name="code" autocomplete="one-time-code" required autofocus maxLength={64} />
        </Field>
      )}
    </Form>
  )
}
