import { createHash } from 'node:crypto'
import type { Fingerprint } from '../protocol/enrolment.ts'

/** Keeps the digest from matching one that another program made of the same machine id. */
const DOMAIN = 'beacon machine id v1\0'

/** What unfinished images and boards without a serial number say instead of an id of their own. */
const NOBODY = /^(uninitialized|[0-]*|[f-]*)$/

/** SHA-256 (hex) by which a machine is known again, or undefined when it has no id of its own. */
export function machineHash(machineId: string | undefined): string | undefined {
  const normal = machineId?.trim().toLowerCase() ?? ''
  if (NOBODY.test(normal)) return undefined
  return createHash('sha256')
    .update(DOMAIN + normal, 'utf8')
    .digest('hex')
}

const MAC = /^([0-9a-f]{2})[:-]?([0-9a-f]{2})[:-]?([0-9a-f]{2})[:-]?(?:[0-9a-f]{2}[:-]?){2}[0-9a-f]{2}$/i

/** What is kept of a fingerprint: no machine id, and of the network address the maker's half alone. */
export function keptFingerprint(fingerprint: Fingerprint): Fingerprint {
  const { machine_id: _machineId, mac, ...kept } = fingerprint
  const maker = mac === undefined ? null : MAC.exec(mac)
  return maker ? { ...kept, mac: maker.slice(1, 4).join(':').toLowerCase() } : kept
}
