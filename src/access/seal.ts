import { createCipheriv, createDecipheriv, createHash } from 'node:crypto'
import type { Random } from '../runtime.ts'
import type { Keyring } from './secret-key.ts'

/**
 * Secrets at rest, sealed with AES-256-GCM. Envelope: version (1 byte), id of the key (4), nonce (12), tag (16),
 * ciphertext. The id says which key opens it, so that a new key can be taken while older envelopes stay readable.
 */
export interface Seal {
  /** `context` says what the text belongs to; an envelope copied to another place does not open there. */
  seal(text: string, context: string): Buffer
  /** Throws SealError for an envelope of an unknown key or version, of another context, or that was changed. */
  open(envelope: Buffer, context: string): string
}

export class SealError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'SealError'
  }
}

const VERSION = 1
const KEY_ID_BYTES = 4
const NONCE_BYTES = 12
const TAG_BYTES = 16
const HEADER_BYTES = 1 + KEY_ID_BYTES
const PREFIX_BYTES = HEADER_BYTES + NONCE_BYTES + TAG_BYTES

/** Names a key, in hex, without telling anything of it. */
export function sealKeyId(key: Buffer): string {
  return createHash('sha256')
    .update('beacon seal key id\n')
    .update(key)
    .digest('hex')
    .slice(0, 2 * KEY_ID_BYTES)
}

/** The header is authenticated with the context, so that neither can be exchanged. */
function associatedData(header: Buffer, context: string): Buffer {
  return Buffer.concat([header, Buffer.from(context, 'utf8')])
}

/** Seals with `key`; opens what `key` or one of the `older` keys sealed. */
export function createSeal(key: Buffer, random: Random, older: readonly Buffer[] = []): Seal {
  if ([key, ...older].some((candidate) => candidate.length !== 32))
    throw new SealError('a key has to be 32 bytes long')
  const keys = { current: key, older }
  return createKeyringSeal({ keys: () => keys }, random)
}

/** Seals with the key that the ring has in use at that moment; opens what any key of the ring sealed. */
export function createKeyringSeal(ring: Pick<Keyring, 'keys'>, random: Random): Seal {
  let known = ring.keys()
  let byId = new Map<string, Buffer>()
  let header = Buffer.alloc(0)
  const index = () => {
    byId = new Map([known.current, ...known.older].map((key) => [sealKeyId(key), key]))
    header = Buffer.concat([Buffer.of(VERSION), Buffer.from(sealKeyId(known.current), 'hex')])
  }
  index()
  const refresh = () => {
    const now = ring.keys()
    if (now === known) return
    known = now
    index()
  }
  return {
    seal(text, context) {
      refresh()
      const nonce = random.bytes(NONCE_BYTES)
      const cipher = createCipheriv('aes-256-gcm', known.current, nonce, { authTagLength: TAG_BYTES })
      cipher.setAAD(associatedData(header, context))
      const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
      return Buffer.concat([header, nonce, cipher.getAuthTag(), sealed])
    },
    open(envelope, context) {
      if (envelope.length < PREFIX_BYTES || envelope[0] !== VERSION)
        throw new SealError('not an envelope of a known version')
      const itsHeader = envelope.subarray(0, HEADER_BYTES)
      const itsKeyId = itsHeader.subarray(1).toString('hex')
      // Another server may have taken a new key a moment ago.
      if (!byId.has(itsKeyId)) refresh()
      const itsKey = byId.get(itsKeyId)
      if (!itsKey) throw new SealError(`sealed with the key ${itsKeyId}, which is not here`)
      const nonce = envelope.subarray(HEADER_BYTES, HEADER_BYTES + NONCE_BYTES)
      const cipher = createDecipheriv('aes-256-gcm', itsKey, nonce, { authTagLength: TAG_BYTES })
      cipher.setAAD(associatedData(itsHeader, context))
      cipher.setAuthTag(envelope.subarray(HEADER_BYTES + NONCE_BYTES, PREFIX_BYTES))
      try {
        return Buffer.concat([cipher.update(envelope.subarray(PREFIX_BYTES)), cipher.final()]).toString(
          'utf8',
        )
      } catch (cause) {
        throw new SealError('changed, or sealed for another place', { cause })
      }
    },
  }
}
