import { AgentExit, EXIT } from '../exit.ts'
import { withoutSecrets } from '../log.ts'
import type { Clock } from '../runtime.ts'
import { printable } from '../text.ts'
import { askAgent } from './client.ts'
import { parseRequest } from './requests.ts'

/** What a command asks of the running agent, and how its answer reads for a person. */
export interface LocalCommand {
  readonly request: object
  readonly tell: (answer: Readonly<Record<string, unknown>>) => readonly string[]
}

/** `metric set name=value …`. */
export function setMetrics(assignments: readonly string[], ttl: string | undefined): LocalCommand {
  const pairs = assignments.map((assignment) => {
    const [name, text, ...rest] = assignment.split('=')
    const value = Number(text)
    if (!name || text === undefined || text.trim() === '' || rest.length > 0 || !Number.isFinite(value))
      throw new AgentExit(EXIT.usage, `"${printable(assignment)}" must be name=number`)
    return [name, value] as const
  })
  const metric = Object.fromEntries(pairs)
  return {
    request: { metric, ...ttlIn(ttl) },
    tell: () => pairs.map(([name, value]) => `${name} = ${value}`),
  }
}

/** `metric unset name …`. */
export function unsetMetrics(names: readonly string[]): LocalCommand {
  const metric = Object.fromEntries(names.map((name) => [name, null]))
  return { request: { metric }, tell: () => names.map((name) => `${name} is gone`) }
}

/** `event --level L --code C … message`. */
export function sendEvent(given: {
  readonly level?: string
  readonly code: string
  readonly message: string
  readonly data?: string
}): LocalCommand {
  const { level, code, message, data } = given
  const event = {
    ...(level === undefined ? {} : { level }),
    code,
    message,
    ...(data === undefined ? {} : { data: jsonObject(data) }),
  }
  return { request: { event }, tell: () => [`event ${printable(code)} is kept until the server has it`] }
}

/** `fault raise --code C … message`. */
export function raiseFault(given: {
  readonly level?: string
  readonly code: string
  readonly message: string
  readonly ttl?: string
}): LocalCommand {
  const { level, code, message, ttl } = given
  const raise = { code, ...(level === undefined ? {} : { level }), message, ...ttlIn(ttl) }
  return { request: { fault: { raise } }, tell: () => [`fault ${printable(code)} stands`] }
}

/** `fault clear C`. */
export function clearFault(code: string): LocalCommand {
  return {
    request: { fault: { clear: code } },
    tell: () => [`fault ${printable(code)} does not stand any more`],
  }
}

/** `fault list`. */
export function listFaults(): LocalCommand {
  return {
    request: { get: 'faults' },
    tell: ({ faults }) => {
      if (!Array.isArray(faults) || faults.length === 0) return ['no faults']
      return faults.map(({ code, level, message, since }) =>
        printable(withoutSecrets(`${level}  ${code}  since ${since}  ${message}`), 1_000),
      )
    },
  }
}

/** Asks the agent and answers with lines for a person, or with its own answer for a program. */
export async function askLocally(
  path: string,
  { request, tell }: LocalCommand,
  clock: Clock,
  asJson: boolean,
): Promise<readonly string[]> {
  // Told apart here, so that a slip of the pen has the exit code of one.
  const checked = parseRequest(JSON.stringify(request))
  if (!checked.ok) throw new AgentExit(EXIT.usage, checked.error)
  const answer = await askAgent(path, request, clock)
  if (answer.ok !== true)
    throw new AgentExit(
      EXIT.error,
      `the agent refuses: ${printable(String(answer.error ?? 'no reason given'))}`,
    )
  return asJson ? [JSON.stringify(answer)] : tell(answer)
}

function ttlIn(text: string | undefined): { ttl_s?: number } {
  if (text === undefined) return {}
  if (!/^\d+(\.\d+)?$/.test(text))
    throw new AgentExit(EXIT.usage, `--ttl "${printable(text)}" must be seconds`)
  return { ttl_s: Number(text) }
}

function jsonObject(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new AgentExit(EXIT.usage, '--data must be a JSON object')
  }
}
