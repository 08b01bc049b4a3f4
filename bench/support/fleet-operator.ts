import type { BeaconServer } from './beacon-server.ts'

/** Asks a server for a site, a fleet, and a key that admits any number of robots to it. */
export async function makeEnrollmentKey({ port, ownerToken }: BeaconServer): Promise<string> {
  const post = async <Answer>(path: string, body: object): Promise<Answer> => {
    const response = await fetch(`http://127.0.0.1:${port}/api/${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${ownerToken}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`POST /api/${path}: ${response.status} ${await response.text()}`)
    return (await response.json()) as Answer
  }
  const { id: siteId } = await post<{ id: string }>('sites', { name: 'site' })
  const { id: fleetId } = await post<{ id: string }>('fleets', { site_id: siteId, name: 'fleet' })
  const key = await post<{ key_value: string }>('enrollment-keys', {
    site_id: siteId,
    fleet_id: fleetId,
    name: 'bench',
  })
  return key.key_value
}
