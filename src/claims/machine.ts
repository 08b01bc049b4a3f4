import type { Fingerprint } from '../protocol/enrolment.ts'

const MAC = /^([0-9a-f]{2})[:-]?([0-9a-f]{2})[:-]?([0-9a-f]{2})[:-]?(?:[0-9a-f]{2}[:-]?){2}[0-9a-f]{2}$/i

/** What is kept of a fingerprint: no machine id, and of the network address the maker's half alone. */
export function keptFingerprint(fingerprint: Fingerprint): Fingerprint {
  const { machine_id: _machineId, mac, ...kept } = fingerprint
  const maker = mac === undefined ? null : MAC.exec(mac)
  return maker ? { ...kept, mac: maker.slice(1, 4).join(':').toLowerCase() } : kept
}
