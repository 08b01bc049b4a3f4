import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generate } from 'selfsigned'

export interface TestCertificate {
  readonly certFile: string
  readonly keyFile: string
  /** In PEM form, to be trusted by clients. */
  readonly cert: string
  remove(): void
}

/** A new self-signed certificate for this machine, in PEM form. */
export async function newCertificate(): Promise<{ cert: string; key: string }> {
  const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }], {
    keyType: 'ec',
    algorithm: 'sha256',
    extensions: [
      { name: 'basicConstraints', cA: true },
      { name: 'keyUsage', digitalSignature: true, keyCertSign: true },
      { name: 'extKeyUsage', serverAuth: true },
      {
        name: 'subjectAltName',
        altNames: [
          { type: 2, value: 'localhost' },
          { type: 7, ip: '127.0.0.1' },
        ],
      },
    ],
  })
  return { cert, key }
}

/** Writes a self-signed certificate for this machine, and its key, into a folder of their own. */
export async function writeCertificate(): Promise<TestCertificate> {
  const folder = mkdtempSync(join(tmpdir(), 'beacon-tls-'))
  const { cert, key } = await newCertificate()
  const certFile = join(folder, 'cert.pem')
  const keyFile = join(folder, 'key.pem')
  writeFileSync(certFile, cert)
  writeFileSync(keyFile, key, { mode: 0o600 })
  return { certFile, keyFile, cert, remove: () => rmSync(folder, { recursive: true }) }
}
