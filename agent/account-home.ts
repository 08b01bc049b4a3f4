import { homedir, userInfo } from 'node:os'

/** The home folder by the user database; `/` for a user whom neither it nor HOME knows, as the service's own may be. */
export function accountHome(byDatabase = () => userInfo().homedir, byEnvironment = homedir): string {
  for (const find of [byDatabase, byEnvironment])
    try {
      return find()
    } catch {
      // Such a user has no entry: made up by systemd on a machine without libnss-systemd, or a container's.
    }
  return '/'
}
