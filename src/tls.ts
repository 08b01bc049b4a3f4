import { readFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { TlsSettings } from './config.ts'
import type { Clock } from './runtime.ts'

/** How often it is looked whether the certificate was renewed. */
const LOOK_EVERY_MS = 60_000

/** A certificate with its chain, and its key, as node:tls takes them. */
export interface Certificate {
  readonly cert: Buffer
  readonly key: Buffer
}

/** Reads both files. Throws when one cannot be read. */
export function readCertificate({ certFile, keyFile }: TlsSettings): Certificate {
  return { cert: readFileSync(certFile), key: readFileSync(keyFile) }
}

/** When the files were written, in a form that can be compared. */
async function writtenAt({ certFile, keyFile }: TlsSettings): Promise<string> {
  const stats = await Promise.all([certFile, keyFile].map((file) => stat(file)))
  return stats.map(({ mtimeMs, ino }) => `${mtimeMs}/${ino}`).join(' ')
}

export interface RenewalParts {
  readonly server: { setSecureContext(certificate: Certificate): void }
  readonly tls: TlsSettings
  readonly clock: Clock
  readonly onRenewed: () => void
  readonly onError: (error: unknown) => void
}

/**
 * Looks every minute whether the files were written anew, and serves new connections with what is in them. A pair that
 * does not fit together is left alone until it does. Answers with a function that ends it.
 */
export function renewCertificate({ server, tls, clock, onRenewed, onError }: RenewalParts): () => void {
  let seen: string | undefined
  let looking = false
  const look = async (): Promise<void> => {
    const now = await writtenAt(tls)
    if (seen === undefined || seen === now) {
      seen = now
      return
    }
    server.setSecureContext(readCertificate(tls))
    seen = now
    onRenewed()
  }
  const lookOnce = (): void => {
    if (looking) return
    looking = true
    look()
      .catch(onError)
      .finally(() => {
        looking = false
      })
  }
  lookOnce()
  const timer = clock.every(LOOK_EVERY_MS, lookOnce)
  return () => timer.cancel()
}
