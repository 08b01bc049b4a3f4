import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { MEMORY_QUESTION, type MemoryAnswer } from '../support/memory-question.ts'

/**
 * What is freed by finalizers is free after the second; and code that only the start has run is let go of after some more,
 * which would make a server with robots, that has collected more often, smaller than one without.
 */
const COLLECTIONS = 10

// Loaded into a server under test by `node --import`: has it say what its memory is made of, when the bench asks.

process.on('message', (message) => {
  if ((message as { question?: string }).question !== MEMORY_QUESTION) return
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  let left = COLLECTIONS
  const goOn = (): void => {
    collect()
    left -= 1
    if (left > 0) {
      setImmediate(goOn)
      return
    }
    const { heapUsed, heapTotal, external } = process.memoryUsage()
    process.send!({ answer: { heapUsed, heapTotal, external } satisfies MemoryAnswer })
  }
  goOn()
})
// A server that is told to end must not be kept by this.
process.channel?.unref()
