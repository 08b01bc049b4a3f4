import type { Reach } from '../db/reach.ts'
import type { RobotFilter } from '../db/robots.ts'
import type { Facts } from './robot.ts'

/** Which robots a reader wants, in the words of the list; `text` in the database's lower case. */
export type LiveFilter = Omit<RobotFilter, 'reach'>

export type Admits = (facts: Facts) => boolean

/** The same as `inReach` says of rows. */
function isInReach(reach: Reach): Admits {
  if (reach === 'everything') return () => true
  const sites = new Set(reach.siteIds)
  const fleets = new Set(reach.fleetIds)
  return (facts) => sites.has(facts.siteId) || fleets.has(facts.fleetId)
}

function isOneOf<Value>(wanted: readonly Value[] | undefined, of: (facts: Facts) => Value): Admits[] {
  if (wanted === undefined) return []
  const set = new Set(wanted)
  return [(facts) => set.has(of(facts))]
}

const all =
  (rules: readonly Admits[]): Admits =>
  (facts) =>
    rules.every((rule) => rule(facts))

/**
 * Judges robots as the list does. `counted` leaves out what a status bar lets people choose among: connection, health,
 * lifecycle, faults, and the rows that happen to be in view.
 */
export function judgeOf(filter: LiveFilter, reach: Reach): { admits: Admits; counted: Admits } {
  const { text, credentialId, labels = [] } = filter
  const counted = all([
    isInReach(reach),
    ...isOneOf(filter.sites, (facts) => facts.siteId),
    ...isOneOf(filter.fleets, (facts) => facts.fleetId),
    ...labels.map(
      ({ name, value }): Admits =>
        (facts) =>
          Object.hasOwn(facts.labels, name) && (value === null || facts.labels[name] === value),
    ),
    ...(text === undefined
      ? []
      : [(facts: Facts) => facts.foldedName.includes(text) || facts.id.startsWith(text)]),
    ...(credentialId === undefined
      ? []
      : [(facts: Facts) => facts.credentialId === credentialId || facts.tokenCredentialId === credentialId]),
  ])
  const chosen = all([
    ...isOneOf(filter.ids, (facts) => facts.id),
    ...isOneOf(filter.connections, (facts) => facts.connection),
    ...isOneOf(filter.healths, (facts) => facts.health),
    ...isOneOf(filter.lifecycles, (facts) => facts.lifecycle),
    ...(filter.hasFaults === undefined ? [] : [(facts: Facts) => facts.hasFaults === filter.hasFaults]),
  ])
  return { counted, admits: (facts) => chosen(facts) && counted(facts) }
}

const sorted = (list: readonly string[] | undefined) => list && [...new Set(list)].sort()

/** One text for all filters and reaches under which the same robots are counted for the same reasons. */
export function countedKeyOf(filter: LiveFilter, reach: Reach): string {
  const labels = filter.labels?.map(({ name, value }) => JSON.stringify([name, value]))
  return JSON.stringify([
    reach === 'everything' ? reach : [sorted(reach.siteIds), sorted(reach.fleetIds)],
    sorted(filter.sites),
    sorted(filter.fleets),
    labels?.length ? sorted(labels) : undefined,
    filter.text,
    filter.credentialId,
  ])
}

/** One text for all filters and reaches that admit the same for the same reasons. */
export function keyOf(filter: LiveFilter, reach: Reach): string {
  const chosen = [filter.ids, filter.connections, filter.healths, filter.lifecycles].map(sorted)
  return JSON.stringify([...chosen, filter.hasFaults, countedKeyOf(filter, reach)])
}
