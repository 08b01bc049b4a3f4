import cluster from 'node:cluster'
import { systemClock, systemRandom } from '../runtime.ts'
import type { GatewayProcess } from './gateway-process.ts'
import type { FromProcess, GatewaySettings, ToProcess } from './messages.ts'

// The program of a gateway process. It is told everything by its supervisor, over the channel between them, and ends
// when that channel does: nothing is ever left running.

/** A process without its supervisor: whoever comes after that needs the port. */
const ALONE_WITHIN_MS = 10_000

let running: Promise<GatewayProcess> | undefined
let ending: Promise<void> | undefined

// The terminal, or systemd, tells the whole group; the supervisor says when it is our turn.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {})
// Without this the cluster ends us in the moment in which the supervisor is gone.
if (cluster.worker) cluster.worker.exitedAfterDisconnect = true
process.on('disconnect', () => {
  systemClock.after(ALONE_WITHIN_MS, () => process.exit(1))
  void end()
})
process.on('message', (message: ToProcess) => void onMessage(message))
// Programs that the server was started with are loaded here, too, and one of them may have let go of the channel.
process.channel?.ref()
tell({ type: 'hello' })

function tell(message: FromProcess, sent: () => void = () => {}): void {
  if (process.connected) process.send?.(message, undefined, undefined, sent)
  else sent()
}

async function onMessage(message: ToProcess): Promise<void> {
  switch (message.type) {
    case 'settings':
      await start(message.settings)
      break
    case 'ping':
      tell({ type: 'pong' })
      break
    case 'servers_gone':
      ;(await running)?.serversGone(message.serverIds)
      break
    case 'expected_robots':
      ;(await running)?.setExpectedRobots(message.robots)
      break
    case 'port':
      ;(await running)?.sharePort(message)
      break
    case 'rate':
      ;(await running)?.setSessionsPerSecond(message.sessionsPerSecond)
      break
    case 'report': {
      const series = await (await running)?.report()
      if (series) tell({ type: 'report', question: message.question, series })
      break
    }
    case 'drain':
      await end()
      break
  }
}

async function start(settings: GatewaySettings): Promise<void> {
  const { startGatewayProcess } = await import('./gateway-process.ts')
  running = startGatewayProcess(settings, { clock: systemClock, random: systemRandom, tell })
  try {
    await running
    tell({ type: 'ready' })
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException
    tell({ type: 'failed', message, ...(code === undefined ? {} : { code }) }, () => process.exit(1))
  }
}

function end(): Promise<void> {
  ending ??= (async () => {
    const process_ = await running?.catch(() => undefined)
    await process_?.stop()
    process.exit(0)
  })()
  return ending
}
