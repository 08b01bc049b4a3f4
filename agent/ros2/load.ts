import { existsSync, realpathSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { AgentExit, EXIT } from '../exit.ts'
import type { Environment } from '../settings.ts'
import { describeError } from '../text.ts'
import type { RosModule } from './port.ts'

const PACKAGE = 'rclnodejs'
const INSTALL =
  'install it in a shell where ROS 2 is sourced: "source /opt/ros/<distribution>/setup.bash && npm install rclnodejs"'
const WRITABLE_BY_OTHERS = 0o002

export interface LoadFrom {
  /** The package's folder, or one that it is installed in; undefined: it is looked for. */
  readonly named: string | undefined
  /** Where the program was started. */
  readonly folder: string
  /** The Node that runs it. */
  readonly execPath: string
  readonly ownUid: number | undefined
  readonly env: Environment
}

/** Loads rclnodejs, which is no part of Beacon; throws AgentExit with what to do when that cannot be. */
export async function loadRclnodejs(from: LoadFrom): Promise<RosModule> {
  const file = findRclnodejs(from)
  // Looked at before it is loaded: without ROS 2 it would try to compile itself, for minutes.
  if (!from.env.AMENT_PREFIX_PATH)
    throw unusable('no ROS 2 is sourced: "source /opt/ros/<distribution>/setup.bash" first')
  const distrust = distrustOf(file, from.ownUid)
  if (distrust) throw unusable(`${distrust}, so that its code is not run: ${INSTALL}`)
  let loaded: unknown
  try {
    loaded = await import(pathToFileURL(file).href)
  } catch (error) {
    throw unusable(
      `${PACKAGE} at ${file} cannot be loaded: ${describeError(error)}. It has to be installed with the ROS 2 that is sourced; ${INSTALL}`,
    )
  }
  const found = moduleIn(loaded)
  if (!found) throw unusable(`what lies at ${file} is no ${PACKAGE} that can be used: ${INSTALL}`)
  return found
}

/** The file that is loaded for rclnodejs: named, or of the working folder and those above, NODE_PATH, or installed globally. */
export function findRclnodejs({ named, folder, execPath }: LoadFrom): string {
  if (named !== undefined) {
    const path = resolve(folder, named)
    const file = resolvedFrom(path, PACKAGE) ?? resolvedFrom(path, path)
    if (file) return file
    throw unusable(`${PACKAGE} is not at ${path}: ${INSTALL}`)
  }
  const file = resolvedFrom(folder, PACKAGE) ?? resolvedFrom(globalFolder(execPath), PACKAGE)
  if (file) return file
  throw unusable(
    `${PACKAGE} is not installed: ${INSTALL}. Start the bridge in that folder, or name it with --rclnodejs`,
  )
}

/** Where `npm install --global` puts packages, beside the Node that runs. */
function globalFolder(execPath: string): string {
  return join(dirname(execPath), '..', 'lib')
}

function resolvedFrom(folder: string, what: string): string | undefined {
  try {
    return createRequire(join(folder, 'here.js')).resolve(what)
  } catch {
    return undefined
  }
}

/** In a working folder that others can write, such as /tmp, there may lie what somebody else put there. */
function distrustOf(file: string, ownUid: number | undefined): string | undefined {
  if (ownUid === undefined) return undefined
  const real = realpathSync(file)
  for (let path = real; ; path = dirname(path)) {
    const { uid, mode } = statSync(path)
    if (uid !== 0 && uid !== ownUid) return `${path} belongs to another user`
    if (mode & WRITABLE_BY_OTHERS) return `${path} can be written by every user`
    if (path === dirname(path) || existsSync(join(path, 'package.json'))) return undefined
  }
}

/** A package made for `require` is the default of what `import` gives. */
function moduleIn(loaded: unknown): RosModule | undefined {
  const whole = loaded as { default?: unknown } | undefined
  return [whole?.default, whole].find(isRosModule)
}

function isRosModule(value: unknown): value is RosModule {
  const parts = value as Readonly<Record<string, unknown>> | null | undefined
  return ['init', 'Node', 'QoS', 'shutdown', 'removeSignalHandlers'].every(
    (name) => typeof parts?.[name] === 'function',
  )
}

function unusable(sentence: string): AgentExit {
  return new AgentExit(EXIT.error, sentence)
}
