import { X509Certificate } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls'
import { describeError } from '../text.ts'

export interface TrustSettings {
  /** Certificates in PEM form that a person trusts besides the system's. */
  readonly caFile: string | undefined
  /** Files of others that are looked at and need not be there. */
  readonly systemFiles: readonly string[]
}

/** Where systems keep what their own programs trust; the first that is there counts. */
const SYSTEM_BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
]

/** The files that name trusted authorities on this machine, beside those that Node brings. */
export function systemTrustFiles(env: Readonly<Record<string, string | undefined>>): string[] {
  const own = env.SSL_CERT_FILE ? [env.SSL_CERT_FILE] : SYSTEM_BUNDLES
  const bundle = own.find((path) => existsSync(path))
  // Node leaves these out where somebody names authorities of their own.
  return [bundle, env.NODE_EXTRA_CA_CERTS].filter((path) => path !== undefined && path !== '') as string[]
}

/** What is wrong with a file of certificates, or undefined. */
export function faultOfCaFile(path: string): string | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    return `${path} cannot be read (${(error as NodeJS.ErrnoException).code ?? describeError(error)})`
  }
  if (certificatesIn(text).length === 0) return `${path} holds no certificate in PEM form`
  return isWhole(text) ? undefined : `${path} holds a damaged certificate`
}

/**
 * Whom the agent believes: the authorities that Node brings, the system's, and those in the person's file. The file is read
 * again when it changed, so that an authority can be renewed under a running agent.
 */
export class Trust {
  readonly #settings: TrustSettings
  #ownText: string | undefined
  #context: SecureContext | undefined

  constructor(settings: TrustSettings) {
    this.#settings = settings
  }

  /** For a connection that is made now. */
  context(): SecureContext {
    const { caFile, systemFiles } = this.#settings
    const read = caFile === undefined ? undefined : readText(caFile)
    // One that is gone or half written for a moment takes nobody's trust away.
    const ownText = read !== undefined && isWhole(read) ? read : this.#ownText
    if (this.#context && ownText === this.#ownText) return this.#context
    this.#ownText = ownText
    const texts = [...systemFiles.map(readText), ownText].filter((text) => text !== undefined)
    const more = newCertificates(texts.flatMap(certificatesIn))
    // Reading all that Node brings costs a small computer half a second and 3 MB: only where there is need.
    this.#context = createSecureContext(more.length === 0 ? {} : { ca: [...rootCertificates, ...more] })
    return this.#context
  }
}

/** Those that Node does not bring itself, each once. One that cannot be read is left out. */
function newCertificates(certificates: readonly string[]): string[] {
  const known = new Set(rootCertificates.map(contentOf))
  return certificates.filter((pem) => {
    const content = contentOf(pem)
    if (known.has(content)) return false
    known.add(content)
    return isCertificate(pem)
  })
}

function contentOf(pem: string): string {
  return pem.replace(/\s+/g, '')
}

function certificatesIn(text: string): string[] {
  return text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
}

/** There is a certificate in it, and none is damaged. */
function isWhole(text: string): boolean {
  const certificates = certificatesIn(text)
  return certificates.length > 0 && certificates.every(isCertificate)
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).raw.length > 0
  } catch {
    return false
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
