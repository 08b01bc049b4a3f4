import { existsSync, readFileSync } from 'node:fs'
import type { Environment } from '../settings.ts'
import type { Layout } from './layout.ts'
import { environmentValue } from './quoting.ts'

const HEADER =
  '# Settings of the Beacon agent. "beacon agent install" sets its own lines and keeps all others.\n'

/** The text of an EnvironmentFile= with these variables set; all that a person wrote into it stays. */
export function withVariables(
  before: string | undefined,
  variables: Readonly<Record<string, string>>,
): string {
  let text = before ?? HEADER
  if (text !== '' && !text.endsWith('\n')) text += '\n'
  for (const [name, value] of Object.entries(variables)) {
    const line = `${name}=${environmentValue(value)}`
    const there = new RegExp(`^[ \\t]*${name}[ \\t]*=.*$`, 'm')
    text = there.test(text) ? text.replace(there, () => line) : `${text}${line}\n`
  }
  return text
}

/** What the agent of an installed service has in its environment, over this one; this one alone where there is none. */
export function environmentOfService(
  { unit, environmentFile }: Pick<Layout, 'unit' | 'environmentFile'>,
  env: Environment,
): Environment {
  if (!existsSync(unit)) return env
  try {
    return { ...env, ...variablesIn(readFileSync(environmentFile, 'utf8')) }
  } catch {
    // Not there, or of another user.
    return env
  }
}

const ASSIGNMENT = /^[ \t]*([A-Za-z_]\w*)[ \t]*=[ \t]*(.*?)[ \t]*$/gm

/** The variables that such a text sets, as systemd reads it: of one that is set twice, the last. */
export function variablesIn(text: string): Record<string, string> {
  return Object.fromEntries(
    [...text.matchAll(ASSIGNMENT)].map(([, name, value]) => [name!, withoutQuotes(value!)]),
  )
}

function withoutQuotes(value: string): string {
  if (/^'[^']*'$/.test(value)) return value.slice(1, -1)
  const [, quoted] = /^"((?:[^"\\]|\\.)*)"$/.exec(value) ?? []
  return (quoted ?? value).replace(/\\(.)/g, '$1')
}
