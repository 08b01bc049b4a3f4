import type { Bus, BusMessage } from './bus.ts'

/** A bus for one server alone: what is published is handled at once, and nothing can be lost. */
export function createLocalBus(): Bus {
  const handlers: ((message: BusMessage) => void)[] = []
  return {
    publish(message) {
      for (const handler of handlers) handler(message)
      return Promise.resolve()
    },
    subscribe(handler) {
      handlers.push(handler)
    },
    onGap() {},
    stop: () => Promise.resolve(),
  }
}
