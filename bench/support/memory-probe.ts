import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

// Loaded into a server under test by `node --import`: has it say what its memory is made of, when the bench asks.

export const MEMORY_QUESTION = 'what is your memory made of?'

/** Bytes; of the heap that which is alive, for what is garbage was collected just before. */
export interface MemoryAnswer {
  readonly heapUsed: number
  readonly heapTotal: number
  readonly external: number
}

process.on('message', (message) => {
  if ((message as { question?: string }).question !== MEMORY_QUESTION) return
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  // What is freed by finalizers is free after the second.
  collect()
  setImmediate(() => {
    collect()
    const { heapUsed, heapTotal, external } = process.memoryUsage()
    process.send!({ answer: { heapUsed, heapTotal, external } satisfies MemoryAnswer })
  })
})
// A server that is told to end must not be kept by this.
process.channel?.unref()
