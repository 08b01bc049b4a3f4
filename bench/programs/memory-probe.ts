import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { MEMORY_QUESTION, type MemoryAnswer } from '../support/memory-question.ts'

// Loaded into a server under test by `node --import`: has it say what its memory is made of, when the bench asks.

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
