import { useState } from 'preact/hooks'
import { useLocation } from 'preact-iso'
import { capital, KINDS, type Kind, type MadeKey } from '../../keys/kinds.ts'
import { NewKey } from '../../keys/new-key.tsx'
import { PageHead } from '../../ui/page-head.tsx'
import { usePlaces } from '../../ui/places.ts'
import { Shown } from '../../ui/states.tsx'
import { addressOf, type KeysAddress, keysAddressOf } from './address.ts'
import { KeyList } from './key-list.tsx'
import { KeyPage } from './key-page.tsx'
import './keys.css'

/** Enrollment keys and provisioning tokens: all of them, a new one, or one of them, as the address says. */
export function Keys() {
  const { url, route } = useLocation()
  const address = keysAddressOf(url)
  const places = usePlaces()
  // What was just made is known here alone, and only until somebody goes elsewhere.
  const [made, setMade] = useState<MadeKey>()
  const go = (next: KeysAddress, replace = true) => route(addressOf(next), replace)
  const { kind } = address
  const list = addressOf({ kind })

  if (address.isNew)
    return (
      <>
        <PageHead title={kind === 'enrollment' ? 'New enrollment key' : 'New provisioning token'} />
        <Kinds kind={kind} addressOfKind={(next) => addressOf({ kind: next, isNew: true })} />
        <p class="soft">{KINDS[kind].about}</p>
        <Shown loaded={places}>
          {(known) => (
            <NewKey
              key={kind}
              kind={kind}
              places={known}
              fleetId={address.fleet}
              onCancel={() => route(list)}
              onMade={(answer) => {
                setMade(answer)
                places.reload()
                go({ kind, id: answer.key.id })
              }}
            />
          )}
        </Shown>
      </>
    )
  if (address.id !== undefined)
    return (
      <KeyPage
        key={address.id}
        kind={kind}
        id={address.id}
        places={places.value}
        made={made?.key.id === address.id ? made : undefined}
        onMadeSeen={() => setMade(undefined)}
      />
    )
  return (
    <KeyList
      key={kind}
      address={address}
      places={places.value}
      onAddress={go}
      tabs={
        <Kinds
          kind={kind}
          addressOfKind={(next) => addressOf({ ...address, kind: next, status: undefined })}
        />
      }
    />
  )
}

function Kinds({ kind, addressOfKind }: { kind: Kind; addressOfKind: (kind: Kind) => string }) {
  return (
    <nav class="tabs" aria-label="Kinds">
      {(Object.keys(KINDS) as Kind[]).map((each) => (
        <a key={each} href={addressOfKind(each)} aria-current={each === kind ? 'page' : undefined}>
          {capital(KINDS[each].nouns)}
        </a>
      ))}
    </nav>
  )
}
