import cluster from 'node:cluster'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { inherited, withoutSettings } from '../config.ts'
import type { FromProcess } from './messages.ts'
import type { Launch } from './supervisor.ts'

/**
 * uWebSockets.js, up to 20.51 at least, looks once more at a socket that it has just made smaller for its upgrade: at
 * memory that is free by then. Where glibc has written a key of its own there, the robot is hung up on and has to dial
 * again. Without the caches that carry such keys this was not seen in 120,000 upgrades. Other C libraries ignore it.
 */
const MALLOC_SETTING = 'glibc.malloc.tcache_count=0'

const PROGRAM = join(import.meta.dirname, `main${fileURLToPath(import.meta.url).slice(-3)}`)

/**
 * Starts gateway processes as workers of a cluster, for there the ws engine shares a port on every Node: each worker takes
 * its connections from one socket by itself. Handed out by the primary, the cluster's other way, each connection waits until
 * the one before has been received, which held a worker to some 600 a second. uws binds the port in each process by
 * itself. No setting is in their arguments or environment.
 */
export function createLaunch(): Launch {
  const given = inherited('GLIBC_TUNABLES')
  const tunables = given ? `${given}:${MALLOC_SETTING}` : MALLOC_SETTING
  cluster.schedulingPolicy = cluster.SCHED_NONE
  cluster.setupPrimary({ exec: PROGRAM, args: [], stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  return (handlers) => {
    const worker = cluster.fork({ ...withoutSettings(), GLIBC_TUNABLES: tunables })
    const { process: child } = worker
    let ended = false
    const exited = (how: string): void => {
      if (ended) return
      ended = true
      handlers.exited(how)
    }
    worker.on('message', (message: FromProcess) => handlers.message(message))
    // A channel that breaks is told of by the end of the process.
    worker.on('error', (error) => {
      if (child.pid === undefined) exited(error.message)
    })
    child.once('exit', (code, signal) => exited(signal ?? `exit code ${code}`))
    return {
      pid: child.pid,
      send(message) {
        if (worker.isConnected()) worker.send(message, () => {})
      },
      kill() {
        child.kill('SIGKILL')
      },
    }
  }
}
