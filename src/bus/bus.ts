/**
 * What servers tell each other. Rare messages only, never heartbeats. Every message is a hint to look at the database
 * again or to close a session; losing one is repaired by `onGap`.
 */
export type BusMessage =
  /** The robots' tokens no longer stand: close their sessions. */
  | { readonly type: 'robots_revoked'; readonly robot_ids: readonly string[] }
  /** An operator, or time, decided against robots that waited for approval. */
  | { readonly type: 'robots_denied'; readonly robot_ids: readonly string[] }
  | { readonly type: 'robots_retired'; readonly robot_ids: readonly string[] }
  /** Name, fleet or lifecycle changed: look again. */
  | { readonly type: 'robots_changed'; readonly robot_ids: readonly string[] }
  /** Tokens or people may do less than before, or nothing: whoever hangs on them has to be asked again. */
  | { readonly type: 'access_changed' }
  /** The fleet's heartbeat interval changed: look again. */
  | { readonly type: 'fleet_changed'; readonly fleet_id: string }
  /** A newer session of the robots was opened: older ones have to go. */
  | {
      readonly type: 'sessions_opened'
      readonly sessions: readonly { robot_id: string; session_no: number }[]
    }

export interface Bus {
  /**
   * Delivers to every server, this one included. Resolves when this server has handled the message and the others
   * will be told; rejects when they cannot be told.
   */
  publish(message: BusMessage): Promise<void>
  /** Handlers run in the order in which they subscribed. */
  subscribe(handler: (message: BusMessage) => void): void
  /** Called after messages may have been lost, once delivery works again. */
  onGap(handler: () => void): void
  stop(): Promise<void>
}
