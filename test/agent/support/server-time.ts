import { KeptOrigins } from '../../../agent/origins.ts'
import type { Clock } from '../../../agent/runtime.ts'
import { ServerTime } from '../../../agent/server-time.ts'

/** What a robot knows of the server's time: nothing yet, unless `origins` do. */
export function serverTimeFor(clock: Clock, origins = new KeptOrigins(), boot = 'boot-1'): ServerTime {
  return new ServerTime({ clock, boot, sinceBoot: () => clock.monotonic(), origins })
}
