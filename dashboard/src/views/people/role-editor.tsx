import { ROLES } from '../../../../src/access/scopes.ts'
import { may, mayGrant } from '../../session/session.ts'
import { Button } from '../../ui/button.tsx'
import { type Places, placeName } from '../../ui/places.ts'
import { doublePlace, placeKey, placeOfKey, ROLE_SAYS, type Role, roleAt } from './role-words.ts'

interface PlaceChoice {
  readonly key: string
  readonly text: string
}

/** Where the viewer may give roles. */
function placesToGive({ sites, fleets }: Places): PlaceChoice[] {
  return [
    ...(may('users:manage') ? [{ key: 'deployment', text: 'the whole deployment' }] : []),
    ...sites.flatMap((site) => [
      ...(may('users:manage', { site_id: site.id })
        ? [{ key: `site:${site.id}`, text: `all of ${site.name}` }]
        : []),
      ...fleets
        .filter(({ id, site_id }) => site_id === site.id && may('users:manage', { site_id, fleet_id: id }))
        .map(({ id, name }) => ({ key: `fleet:${id}`, text: `${name}, ${site.name}` })),
    ]),
  ]
}

/** The role that a new line begins with: the least, at the first place without one. */
export function firstRole(places: Places, taken: readonly Role[]): Role | undefined {
  const keys = new Set(taken.map(placeKey))
  const choice = placesToGive(places).find(({ key }) => !keys.has(key))
  return choice && { role: 'viewer', ...placeOfKey(choice.key) }
}

/** Which role at which place, line by line; one role at each place. */
export function RoleEditor({
  roles,
  places,
  wrong,
  onRoles,
}: {
  roles: readonly Role[]
  places: Places
  wrong?: string | undefined
  onRoles: (roles: Role[]) => void
}) {
  const choices = placesToGive(places)
  const double = doublePlace(roles)
  const next = firstRole(places, roles)
  const change = (index: number, part: Partial<Role>) =>
    onRoles(roles.map((role, at) => (at === index ? { ...role, ...part } : role)))
  return (
    <fieldset class="roles">
      <legend>Roles</legend>
      {roles.length === 0 && <p class="soft">None: nothing can be seen or done.</p>}
      {roles.map((role, index) => {
        const key = placeKey(role)
        const known = choices.some((choice) => choice.key === key)
        // An owner is one of the whole deployment.
        const grantable = ROLES.filter(
          (name) =>
            name === role.role ||
            ((name !== 'owner' || key === 'deployment') && mayGrant(roleAt({ ...role, role: name }, places))),
        )
        return (
          <div key={index} class="role-line">
            <select
              aria-label={`Role ${index + 1}`}
              value={role.role}
              onChange={(event) => change(index, { role: event.currentTarget.value as Role['role'] })}
            >
              {grantable.map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </select>
            <span>of</span>
            <select
              aria-label={`Place of role ${index + 1}`}
              value={key}
              disabled={role.role === 'owner'}
              onChange={(event) => change(index, placeOfKey(event.currentTarget.value))}
            >
              {!known && <option value={key}>{placeName(places, role)}</option>}
              {choices.map((choice) => (
                <option key={choice.key} value={choice.key}>
                  {choice.text}
                </option>
              ))}
            </select>
            <Button
              size="small"
              kind="quiet"
              label={`Take away role ${index + 1}`}
              onClick={() => onRoles(roles.filter((_, at) => at !== index))}
            >
              ✕
            </Button>
            <span class="small soft says">{ROLE_SAYS[role.role]}.</span>
          </div>
        )
      })}
      {double >= 0 && (
        <span class="wrong" role="alert">
          There are two roles for {placeName(places, roles[double]!)}: take one away.
        </span>
      )}
      {wrong && <span class="wrong">{wrong}</span>}
      {next && (
        <div>
          <Button size="small" onClick={() => onRoles([...roles, next])}>
            Another role
          </Button>
        </div>
      )}
    </fieldset>
  )
}
