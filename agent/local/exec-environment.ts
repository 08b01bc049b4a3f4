import type { Environment } from '../settings.ts'

/** What belongs to the agent or its service alone, and what is named or looks like a secret. */
const OWN_NAMES =
  /^(BEACON_.*|NOTIFY_SOCKET|WATCHDOG_.*|LISTEN_.*|CREDENTIALS_DIRECTORY|(RUNTIME|STATE|CACHE|LOGS|CONFIGURATION)_DIRECTORY|INVOCATION_ID|JOURNAL_STREAM|NODE_.*)$/
const SECRET_NAME = /TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|(^|_)(API_?)?KEYS?(_|$)|(^|_)AUTH/i
const SECRET_VALUE = /\b(rf_[a-z]+_|apt_)[0-9A-Za-z]{16,}|:\/\/[^/\s]*@/

/** The environment of a program that the agent starts: its own without its secrets, and where to reach it. */
export function execEnvironment(env: Environment, socket: string | undefined): Record<string, string> {
  const kept = Object.entries(env).filter(
    ([name, value]) =>
      value !== undefined && !OWN_NAMES.test(name) && !SECRET_NAME.test(name) && !SECRET_VALUE.test(value),
  ) as [string, string][]
  return {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    ...Object.fromEntries(kept),
    ...(socket === undefined ? {} : { BEACON_AGENT_SOCKET: socket }),
  }
}
