import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Places } from '../places.ts'
import type { Environment } from '../settings.ts'

/** Made by systemd's RuntimeDirectory while the service runs; only its group sees into it. */
const SERVICE_FOLDER = '/run/beacon'
export const OFF = 'off'

/** Where an agent listens for the robot's own software; undefined when it is not to. */
export function socketToServe(places: Places, env: Environment): string | undefined {
  if (env.BEACON_AGENT_SOCKET === OFF) return undefined
  if (env.BEACON_AGENT_SOCKET) return env.BEACON_AGENT_SOCKET
  // Several folders are separated by colons; a service of ours has one.
  const runtime = env.RUNTIME_DIRECTORY?.split(':')[0]
  return runtime ? join(runtime, 'agent.sock') : ownSocket(places)
}

/**
 * Where a command finds the agent: what the environment names, else the socket beside the state, else the service's,
 * which is not asked where a config file is named: that is another robot.
 */
export function socketToCall(
  places: Places,
  env: Environment,
  isNamed: boolean,
  serviceFolder = SERVICE_FOLDER,
): string {
  if (env.BEACON_AGENT_SOCKET && env.BEACON_AGENT_SOCKET !== OFF) return env.BEACON_AGENT_SOCKET
  const own = ownSocket(places)
  return !isNamed && !existsSync(own) && existsSync(serviceFolder) ? join(serviceFolder, 'agent.sock') : own
}

function ownSocket(places: Places): string {
  return join(places.stateDir, `${places.stem}.sock`)
}
