import { connect } from 'node:net'
import { AgentExit, EXIT } from '../exit.ts'
import { objectIn } from '../http.ts'
import type { Clock } from '../runtime.ts'
import { describeError } from '../text.ts'

const ANSWER_TIMEOUT_MS = 5_000
const ANSWER_LIMIT_BYTES = 256 * 1024

/** Sends one request to the agent that listens on `path` and answers with its answer; throws AgentExit when none does. */
export function askAgent(path: string, request: object, clock: Clock): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    const fail = (sentence: string) => {
      timer.cancel()
      socket.destroy()
      reject(new AgentExit(EXIT.error, sentence))
    }
    const timer = clock.after(ANSWER_TIMEOUT_MS, () => fail(`the agent on ${path} does not answer`))
    let text = ''
    socket.setEncoding('utf8')
    socket.once('connect', () => socket.write(`${JSON.stringify(request)}\n`))
    socket.once('error', (error: NodeJS.ErrnoException) => fail(whyNoAgent(path, error)))
    socket.on('data', (part) => {
      text += part
      if (text.length > ANSWER_LIMIT_BYTES) fail(`the answer from ${path} is too long`)
      const end = text.indexOf('\n')
      if (end < 0) return
      timer.cancel()
      socket.destroy()
      const answer = objectIn(text.slice(0, end))
      if (answer) resolve(answer)
      else fail(`what listens on ${path} is no agent`)
    })
    socket.once('end', () => fail(`the agent on ${path} gave no answer`))
  })
}

/** Why no agent could be reached there, and what to do. */
export function whyNoAgent(path: string, error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ENOENT':
    case 'ECONNREFUSED':
      return `no agent listens on ${path}: start it with "beacon agent run", or name its socket in BEACON_AGENT_SOCKET`
    case 'EACCES':
      return `no right to use ${path}: it takes the agent's own user or a member of the socket's group, which is beacon-robot for a service`
    default:
      return `cannot reach the agent on ${path}: ${describeError(error)}`
  }
}
