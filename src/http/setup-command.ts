import { shellWord } from './public-url.ts'

/**
 * The one line that installs the agent on a robot and enrols it, to be pasted there. `server` is this server's public
 * address; `flag` and `secret` say what the robot enrols with.
 */
export function setupCommand(
  server: string,
  flag: '--enrollment-key' | '--setup-token',
  secret: string,
): string {
  return `curl -fsSL ${shellWord(`${server}/install.sh`)} | sh -s -- ${flag} ${secret}`
}
