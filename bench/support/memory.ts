import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { parentOf } from './proc.ts'

const KIB = 1024

/** Lines of `Name: 12 kB`, in bytes. */
export function fieldsOf(path: string): Map<string, number> {
  const lines = readFileSync(path, 'utf8').matchAll(/^(\S+):\s+(\d+)(?: kB)?$/gm)
  return new Map([...lines].map(([, name, value]) => [name!, Number(value) * KIB]))
}

/** A process with all that it started, itself first; those that end meanwhile may be missing. */
export function treeOf(root: number): number[] {
  const children = new Map<number, number[]>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const parent = parentOf(Number(name))
      children.set(parent, [...(children.get(parent) ?? []), Number(name)])
    } catch {}
  }
  const tree = [root]
  for (const pid of tree) tree.push(...(children.get(pid) ?? []))
  return tree
}

/** The processes that a process has started itself. */
export function childrenOf(parent: number): number[] {
  return treeOf(parent).filter((pid) => {
    try {
      return parentOf(pid) === parent
    } catch {
      return false
    }
  })
}

/** Bytes of processes in memory; what several share is counted once, in parts (Pss). Processes that ended count nothing. */
export function proportionalBytesOf(pids: readonly number[]): number {
  let bytes = 0
  for (const pid of pids)
    try {
      bytes += fieldsOf(`/proc/${pid}/smaps_rollup`).get('Pss') ?? 0
    } catch {}
  return bytes
}

export interface MachineMemory {
  /** What programs could still take. */
  readonly available: number
  /** What the kernel keeps for itself: sockets, their files and buffers, page tables, stacks. */
  readonly kernel: number
  /** TCP sockets in use, both ends of those on this machine. */
  readonly sockets: number
}

export function machineMemory(): MachineMemory {
  const fields = fieldsOf('/proc/meminfo')
  const kernel = ['Slab', 'KernelStack', 'PageTables', 'Percpu'].map((name) => fields.get(name) ?? 0)
  const [, sockets, pages] =
    /^TCP: inuse (\d+) .* mem (\d+)$/m.exec(readFileSync('/proc/net/sockstat', 'utf8')) ?? []
  return {
    available: fields.get('MemAvailable') ?? 0,
    kernel: kernel.reduce((sum, bytes) => sum + bytes, Number(pages ?? 0) * 4 * KIB),
    sockets: Number(sockets ?? 0),
  }
}

/** When memory runs out, the kernel ends this process before any other: what puts load on a machine is worth least. */
export function endFirstWithoutMemory(pid: number): void {
  writeFileSync(`/proc/${pid}/oom_score_adj`, '1000')
}
