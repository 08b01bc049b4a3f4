import { CliError, EXIT } from './failure.ts'
import { confirm, connect, type OperatorOptions, printJson, printLines } from './operator.ts'
import type { Terminal } from './terminal.ts'
import { countOf } from './text.ts'

interface Security {
  readonly require_second_factor: boolean
  readonly robot_token_max_age_days: number | null
  readonly rotate_on_suspicion: boolean
}

interface SetOptions extends OperatorOptions {
  readonly requireSecondFactor?: string
  readonly robotTokenMaxAgeDays?: string
  readonly rotateOnSuspicion?: string
  readonly yes?: boolean
}

function print(terminal: Terminal, security: Security): void {
  const { robot_token_max_age_days: days } = security
  printLines(terminal, [
    `require-second-factor      ${security.require_second_factor ? 'yes' : 'no'}`,
    `robot-token-max-age-days   ${days ?? 'never'}`,
    `rotate-on-suspicion        ${security.rotate_on_suspicion ? 'yes' : 'no'}`,
  ])
}

export async function showSecurity(terminal: Terminal, options: OperatorOptions): Promise<void> {
  const security = await connect(options, terminal).get<Security>('/api/security')
  if (options.json) return printJson(terminal, security)
  print(terminal, security)
}

function yesOrNo(text: string | undefined, option: string): boolean | undefined {
  if (text === undefined) return undefined
  if (text !== 'yes' && text !== 'no') throw new CliError(`${option} takes yes or no`, EXIT.usage)
  return text === 'yes'
}

export async function setSecurity(terminal: Terminal, options: SetOptions): Promise<void> {
  const days = options.robotTokenMaxAgeDays
  const change = Object.fromEntries(
    Object.entries({
      require_second_factor: yesOrNo(options.requireSecondFactor, '--require-second-factor'),
      robot_token_max_age_days:
        days === undefined
          ? undefined
          : days === 'never'
            ? null
            : countOf(days, '--robot-token-max-age-days'),
      rotate_on_suspicion: yesOrNo(options.rotateOnSuspicion, '--rotate-on-suspicion'),
    }).filter(([, value]) => value !== undefined),
  )
  if (Object.keys(change).length === 0) throw new CliError('say what to change', EXIT.usage)
  const client = connect(options, terminal)
  if (change.require_second_factor)
    await confirm(
      terminal,
      options.yes,
      'Whoever has no second factor, and every token of theirs, can do nothing until they set one up. Go on?',
    )
  const security = await client.patch<Security>('/api/security', change)
  if (options.json) return printJson(terminal, security)
  print(terminal, security)
}
