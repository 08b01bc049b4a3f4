import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { arch, hostname, networkInterfaces, platform, release, type } from 'node:os'
import type { Fingerprint } from '../src/protocol/enrolment.ts'
import type { Places } from './places.ts'
import { agentVersion } from './version.ts'

/** What a machine is, as far as it can tell by itself. */
export interface Machine {
  readonly hostname: string
  readonly os: string
  readonly platform: string
  readonly arch: string
  readonly version: string
  readonly mac: string | undefined
  /** A hash: the machine's own id is nobody else's business. Undefined where machines have none. */
  readonly machineId: string | undefined
  /** A hash, too, and the same wherever on this machine an agent keeps its identity. */
  readonly boardId: string | undefined
  readonly bootId: string | undefined
}

/** Reads what this machine is. */
export function readMachine(places: Places): Machine {
  const id = firstLine('/etc/machine-id') ?? firstLine('/var/lib/dbus/machine-id')
  return {
    hostname: hostname().slice(0, 253),
    os: osName().slice(0, 128),
    platform: platform(),
    arch: arch(),
    version: agentVersion,
    mac: macAddress(),
    machineId: machineIdFor(id, places),
    boardId: id && createHash('sha256').update(`beacon board ${id}`).digest('hex'),
    bootId: firstLine('/proc/sys/kernel/random/boot_id'),
  }
}

/**
 * Names the machine for one agent. An agent with a config of its own choosing is a robot of its own, so that several
 * can run on one machine; in the usual place the machine alone counts, so that a robot set up anew is known again.
 */
export function machineIdFor(id: string | undefined, places: Places): string | undefined {
  if (!id) return undefined
  const scope = places.isCustom ? `\n${places.config}` : ''
  return createHash('sha256').update(`beacon machine ${id}${scope}`).digest('hex')
}

/** What a claim says of the machine. */
export function fingerprintOf(machine: Machine): Fingerprint {
  return {
    hostname: machine.hostname,
    os: machine.os,
    platform: machine.platform,
    arch: machine.arch,
    agent_version: machine.version,
    ...(machine.mac ? { mac: machine.mac } : {}),
    ...(machine.machineId ? { machine_id: machine.machineId } : {}),
  }
}

function osName(): string {
  const release_ = readText('/etc/os-release')
  const pretty = release_ && /^PRETTY_NAME="?([^"\n]+)"?$/m.exec(release_)?.[1]
  return pretty || `${type()} ${release()}`
}

const NO_MAC = '00:00:00:00:00:00'
/** Interfaces that software makes up, often with a new address at each start. */
const VIRTUAL = /^(docker|veth|br-|virbr|tun|tap|wg|tailscale|zt)/

function macAddress(): string | undefined {
  const all = Object.entries(networkInterfaces())
    .flatMap(([name, addresses]) => (addresses ?? []).map((address) => ({ name, ...address })))
    .filter((address) => !address.internal && address.mac !== NO_MAC)
  return (all.find((address) => !VIRTUAL.test(address.name)) ?? all[0])?.mac
}

function firstLine(path: string): string | undefined {
  return readText(path)?.split('\n')[0]?.trim() || undefined
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
