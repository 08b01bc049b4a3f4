import { existsSync, readFileSync } from 'node:fs'
import { AgentExit, EXIT } from './exit.ts'
import { removeIdentity } from './forget.ts'
import { handedOverAt } from './handed-over.ts'
import type { Places } from './places.ts'
import type { Clock, Random } from './runtime.ts'
import { putFile } from './service/put-file.ts'
import { type AgentState, type FileSettings, renderState } from './state.ts'
import { loadState } from './state-file.ts'
import { describeError } from './text.ts'

/** What was done so that copies of this disk enrol as robots of their own, and what a person has to know. */
export interface ImageReport {
  readonly removed: readonly string[]
  /** agent.toml, when it holds settings and so stays, without the identity. */
  readonly kept: string | undefined
  readonly remarks: readonly string[]
}

/**
 * Removes all that makes this disk one robot: the identity, claims under way, heartbeat numbers and what waits to be sent.
 * Settings and keys to enrol with stay. Refuses while an agent runs.
 */
export async function forgetForImage(
  places: Places,
  clock: Clock,
  random: Random,
  machineIdFile = '/etc/machine-id',
): Promise<ImageReport> {
  const { settings, others, ownName } = kept(loadState(places).state)
  const hasSettings = Object.keys(settings).length + Object.keys(others).length > 0
  const removed = await removeIdentity(places, clock, random, () => {
    if (hasSettings) keep(places, renderState({ settings, others }))
  })
  return {
    removed: removed.filter((file) => !hasSettings || file !== places.config),
    kept: hasSettings ? places.config : undefined,
    remarks: [...remarksOnKey(places, settings), ...remarksOnCopies(settings, ownName, machineIdFile)],
  }
}

/** The name of an enrolled robot is its own, and stands where the wish for one stood before. */
function kept({ settings, others, identity }: AgentState) {
  const { name, ...rest } = settings
  return identity ? { settings: rest, others, ownName: name } : { settings, others, ownName: undefined }
}

function keep(places: Places, text: string): void {
  try {
    putFile(places.config, text, 0o600)
  } catch (error) {
    throw new AgentExit(EXIT.error, `cannot write ${places.config}: ${describeError(error)}`)
  }
}

function remarksOnKey(places: Places, settings: FileSettings): string[] {
  const { key, setupToken } = handedOverAt(places)
  if (existsSync(setupToken))
    return [
      `${setupToken} lies ready, but a setup token is for one robot: only the first copy can enrol with it`,
    ]
  const [ready] = [key, settings.enrollmentKeyFile].filter((path) => path !== undefined && existsSync(path))
  if (ready) return [`robots made from this disk enrol with the key in ${ready}`]
  return [
    'no key lies ready for robots made from this disk. "beacon agent install --enrollment-key-file <file> --no-start" leaves one',
  ]
}

function remarksOnCopies(
  settings: FileSettings,
  ownName: string | undefined,
  machineIdFile: string,
): string[] {
  const remarks: string[] = []
  if (ownName) remarks.push(`the name "${ownName}" was this robot's own and is not kept`)
  if (settings.name)
    remarks.push(`each of them will ask for the name "${settings.name}"; all but the first get a suffix`)
  if (holdsMachineId(machineIdFile))
    remarks.push(
      `${machineIdFile} still holds this machine's id, and machines with the same id are taken for one: empty it ("truncate -s 0 ${machineIdFile}") as the last step before the disk is copied`,
    )
  return remarks
}

function holdsMachineId(path: string): boolean {
  try {
    return /^[0-9a-f]{32}\s*$/.test(readFileSync(path, 'utf8'))
  } catch {
    return false
  }
}
