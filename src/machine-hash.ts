import { createHash } from 'node:crypto'

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
