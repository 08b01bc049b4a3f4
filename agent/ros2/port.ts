/**
 * What is used of rclnodejs, and no more: the same in 0.2x, 1.x and 2.x. It brings its types only once it is installed
 * with a ROS 2, so that they are written down here.
 */
export interface RosModule {
  /** Undefined is the default context. `args` as on the command line of a ROS program. */
  init(context: undefined, args: string[]): Promise<void>
  readonly Node: new (name: string, namespace?: string) => RosNode
  readonly QoS: new (history: number, depth: number, reliability: number, durability: number) => object
  /** Ends the default context with all its nodes. */
  shutdown(): void
  /** It takes SIGINT for itself otherwise. */
  removeSignalHandlers(): void
}

export interface RosNode {
  createSubscription(
    type: string,
    topic: string,
    options: { readonly qos: object },
    /** With one parameter: with two it is handed more than the message. */
    heard: (message: unknown) => void,
  ): unknown
  getTopicNamesAndTypes(): readonly { readonly name: string; readonly types: readonly string[] }[]
  countPublishers(topic: string): number
  /** The whole name, with what ROS was told to rename; not in every version. */
  resolveTopicName?(topic: string): string
  /** Waits in a thread of its own, each time at most so long. */
  spin(timeoutMs: number): void
}

/** The values of rmw/types.h that are used. */
const KEEP_LAST = 1
const RELIABLE = 1
const BEST_EFFORT = 2
const TRANSIENT_LOCAL = 1
const VOLATILE = 2

/** Takes from publishers of every quality of service; `depth` messages may wait. */
export function takingAll(ros: RosModule, depth: number): object {
  return new ros.QoS(KEEP_LAST, depth, BEST_EFFORT, VOLATILE)
}

/** Takes the last message that was published before, too; only from publishers that keep it. */
export function takingLatched(ros: RosModule): object {
  return new ros.QoS(KEEP_LAST, 1, RELIABLE, TRANSIENT_LOCAL)
}
