import { createHash } from 'node:crypto'
import { closeSync, fstatSync, openSync, read, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'

/** What robots fetch from the control plane, and what each of it is. */
export const HANDOUT_TYPES = {
  'beacon-agent.mjs': 'text/javascript; charset=utf-8',
  'beacon-agent-linux-x64.tar.gz': 'application/gzip',
  'beacon-agent-linux-arm64.tar.gz': 'application/gzip',
  SHA256SUMS: 'text/plain; charset=utf-8',
} as const

export type HandoutName = keyof typeof HANDOUT_TYPES
export const HANDOUT_NAMES = Object.keys(HANDOUT_TYPES) as [HandoutName, ...HandoutName[]]

export interface Handout {
  readonly type: string
  readonly sizeBytes: number
  readonly etag: string
  open(): Readable
}

/** The agent as it was built when the server started, whatever is built later. */
export interface Handouts {
  /** Undefined: it was not built. */
  file(name: HandoutName): Handout | undefined
  /** install.sh, for a server at this address. */
  script(server: string): string | undefined
  close(): void
}

const CHUNK_BYTES = 64 * 1024
const readAt = promisify(read)

/** Opens the folder that `npm run build` makes; what it does not hold is not handed out. */
export function openHandouts(folder: string): Handouts {
  const sums = readIfThere(join(folder, 'SHA256SUMS')) ?? Buffer.alloc(0)
  const template = readIfThere(join(folder, 'install.sh'))?.toString()
  const opened = new Map<HandoutName, Handout>()
  const descriptors: number[] = []
  for (const name of HANDOUT_NAMES) {
    const sum = name === 'SHA256SUMS' ? sha256(sums) : sumIn(sums.toString(), name)
    const fd = sum === undefined ? undefined : openIfThere(join(folder, name))
    if (sum === undefined || fd === undefined) continue
    descriptors.push(fd)
    const sizeBytes = fstatSync(fd).size
    opened.set(name, {
      type: HANDOUT_TYPES[name],
      sizeBytes,
      etag: `"${sum}"`,
      open: () => Readable.from(chunksOf(fd, sizeBytes), { objectMode: false, highWaterMark: CHUNK_BYTES }),
    })
  }
  return {
    file: (name) => opened.get(name),
    script(server) {
      if (template === undefined) return undefined
      return fillIn(template, { BEACON_SERVER: server, BEACON_SUMS: sums.toString().trimEnd() })
    },
    close() {
      opened.clear()
      for (const fd of descriptors.splice(0)) closeSync(fd)
    },
  }
}

async function* chunksOf(fd: number, sizeBytes: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < sizeBytes; ) {
    const { bytesRead, buffer } = await readAt(fd, Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES, at)
    if (bytesRead === 0) throw new Error('a file that is handed out became shorter')
    yield buffer.subarray(0, bytesRead)
    at += bytesRead
  }
}

/** Puts values where `'@NAME@'` stands, as a shell reads them back. */
function fillIn(template: string, values: Readonly<Record<string, string>>): string {
  return template.replace(/'@([A-Z_]+)@'/g, (whole, name: string) => {
    const value = values[name]
    return value === undefined ? whole : `'${value.replaceAll("'", `'\\''`)}'`
  })
}

function sumIn(sums: string, name: string): string | undefined {
  return sums
    .split('\n')
    .map((line) => /^([0-9a-f]{64}) {2}(.+)$/.exec(line))
    .find((found) => found?.[2] === name)?.[1]
}

function sha256(text: string | Buffer): string {
  return createHash('sha256').update(text).digest('hex')
}

function readIfThere(path: string): Buffer | undefined {
  return ifThere(() => readFileSync(path))
}

function openIfThere(path: string): number | undefined {
  return ifThere(() => openSync(path, 'r'))
}

function ifThere<Found>(take: () => Found): Found | undefined {
  try {
    return take()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
