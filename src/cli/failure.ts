/** Exit codes of `beacon`, the same for every command. */
export const EXIT = { fine: 0, error: 1, usage: 2, credential: 3, unreachable: 4 } as const

/** Ends a command: one sentence for standard error and the exit code that goes with it. */
export class CliError extends Error {
  readonly exitCode: number
  /** The same command may work later: the server is away, starting or has too much to do. */
  readonly passing: boolean

  constructor(message: string, exitCode: number = EXIT.error, passing = exitCode === EXIT.unreachable) {
    super(message)
    this.name = 'CliError'
    this.exitCode = exitCode
    this.passing = passing
  }
}
