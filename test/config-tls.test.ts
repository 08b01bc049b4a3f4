import { afterAll, beforeAll, expect, it } from 'vitest'
import { readConfig } from '../src/config.ts'
import { type TestCertificate, writeCertificate } from './support/certificate.ts'

let one: TestCertificate
let other: TestCertificate
beforeAll(async () => {
  one = await writeCertificate()
  other = await writeCertificate()
})
afterAll(() => {
  one.remove()
  other.remove()
})

const read = (certFile: string, keyFile: string) =>
  readConfig({ BEACON_TLS_CERT_FILE: certFile, BEACON_TLS_KEY_FILE: keyFile })

it('takes a certificate with its key', () => {
  const { certFile, keyFile } = one
  expect(read(certFile, keyFile).tls).toEqual({ certFile, keyFile })
})

it('names the settings where the files hold something else, or do not fit together', () => {
  const mistake = /BEACON_TLS_CERT_FILE and BEACON_TLS_KEY_FILE are no certificate and its key in PEM/
  expect(() => read(import.meta.filename, import.meta.filename)).toThrow(mistake)
  expect(() => read(one.certFile, other.keyFile)).toThrow(mistake)
  expect(() => read(one.keyFile, one.certFile)).toThrow(mistake)
})
