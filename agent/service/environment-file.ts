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
