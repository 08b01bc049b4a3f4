import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { Config } from '../config.ts'
import type { Engine } from './transport.ts'
import type { Uws } from './uws.ts'
import { wsEngine } from './ws.ts'

/** Packages that bring uWebSockets.js, the one to take first at the front. Neither has to be there. */
const UWS_PACKAGES = ['uWebSockets.js', '@uwsjs/core'] as const

/** How to get one of them, for whoever asked for the engine and has none. */
const HOW_TO_INSTALL =
  'install it with `npm install uNetworking/uWebSockets.js#v20.65.0` (Node 20, 22, 24 and 25, with glibc 2.38 or newer), ' +
  'or with `npm install @uwsjs/core@20.51.4` (Node 20, 22 and 23, with glibc)'

export interface ChosenEngine {
  readonly engine: Engine
  /** Why this one, in few words, for the line that is printed at the start. */
  readonly why: string
}

export class EngineError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'EngineError'
  }
}

/** `trouble`: why it is there and cannot be had; undefined when it is not there. */
type Loaded = { readonly uws: Uws; readonly build: string } | { readonly trouble: string | undefined }

/** Finds the engine that is asked for; `auto` takes the fastest that loads here. Rejects with an EngineError. */
export async function chooseEngine(wanted: Config['gatewayEngine']): Promise<ChosenEngine> {
  if (wanted === 'ws') return { engine: wsEngine, why: 'BEACON_GATEWAY_ENGINE asks for it' }
  const troubles: string[] = []
  for (const name of UWS_PACKAGES) {
    const loaded = await load(name)
    if ('uws' in loaded) {
      const { createUwsEngine } = await import('./uws.ts')
      return { engine: createUwsEngine(loaded.uws, loaded.build), why: `${loaded.build} is installed` }
    }
    if (loaded.trouble !== undefined) troubles.push(loaded.trouble)
  }
  const why = troubles.length > 0 ? troubles.join(', ') : `neither ${UWS_PACKAGES.join(' nor ')} is installed`
  if (wanted === 'uws') throw new EngineError(`BEACON_GATEWAY_ENGINE is uws, and ${why}: ${HOW_TO_INSTALL}`)
  return { engine: wsEngine, why }
}

async function load(name: string): Promise<Loaded> {
  try {
    const module = (await import(name)) as Uws & { readonly default?: Uws }
    return { uws: module.default ?? module, build: `${name} ${versionOf(name)}` }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const absent = code === 'ERR_MODULE_NOT_FOUND' && message.includes(`'${name}'`)
    return { trouble: absent ? undefined : `${name} does not load ${causeIn(message)}` }
  }
}

/** Builds ask for a version of Node and of the C library; the package itself always blames Node. */
function causeIn(message: string): string {
  const library = /GLIBC_([\d.]+)' not found/.exec(message)?.[1]
  return library === undefined ? `on Node ${process.versions.node}` : `without glibc ${library}`
}

function versionOf(name: string): string {
  const main = createRequire(import.meta.url).resolve(name)
  const { version } = JSON.parse(readFileSync(join(dirname(main), 'package.json'), 'utf8')) as {
    version: string
  }
  return version
}
