import type { Answered, CrowdQuestion, Look } from '../programs/robot-crowd.ts'
import type { Child, StartChild } from './child.ts'

type Begin = Omit<Extract<CrowdQuestion, { do: 'begin' }>, 'do'>

/** A crowd of at most 19,500 robots in a process of its own, as the bench sees it. */
export class RobotCrowd {
  readonly child: Child

  private constructor(child: Child) {
    this.child = child
  }

  static async start(start: StartChild, begin: Begin): Promise<RobotCrowd> {
    const crowd = new RobotCrowd(start(new URL('../programs/robot-crowd.js', import.meta.url)))
    await crowd.ask({ do: 'begin', ...begin })
    return crowd
  }

  ask<Answer>(question: CrowdQuestion): Promise<Answer> {
    return this.child.ask<Answer>(question)
  }

  /** Connects one robot for each token and waits until all are greeted. */
  async connect(
    tokens: readonly string[],
    { perSecond, withinSeconds = 120 }: { perSecond?: number; withinSeconds?: number } = {},
  ): Promise<void> {
    await this.ask({ do: 'add', tokens, ...(perSecond === undefined ? {} : { perSecond }) })
    await this.ask({ do: 'all-here', withinSeconds })
  }

  beatOnce(): Promise<Answered> {
    return this.ask({ do: 'beat-once' })
  }

  look(): Promise<Look> {
    return this.ask({ do: 'look' })
  }
}
