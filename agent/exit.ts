/** What the agent's exit codes say to whoever started it. */
export const EXIT = {
  fine: 0,
  error: 1,
  usage: 2,
  /** The credential is refused for good: starting again unchanged cannot help. */
  refused: 3,
  /** Somebody else is this robot, or holds its place. */
  conflict: 5,
} as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

/** Ends the agent: a sentence for a person, saying what to do, and the code that goes with it. */
export class AgentExit extends Error {
  readonly exitCode: ExitCode

  constructor(exitCode: ExitCode, sentence: string) {
    super(sentence)
    this.name = 'AgentExit'
    this.exitCode = exitCode
  }
}

/** Ends it because the server does not take its token any more, unless another identity can be had. */
export class TokenRefused extends AgentExit {
  constructor(sentence: string) {
    super(EXIT.refused, sentence)
    this.name = 'TokenRefused'
  }
}

/** Ends it because its claim was refused for good, or not answered in as many attempts as were granted. */
export class ClaimRefused extends AgentExit {
  constructor(exitCode: ExitCode, sentence: string) {
    super(exitCode, sentence)
    this.name = 'ClaimRefused'
  }
}
