import { appendFileSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

// Loaded into an agent by NODE_OPTIONS: at SIGUSR2 it collects its garbage and writes down what is left, as a line of bytes.

/** What is freed by finalizers is free after the second. */
const COLLECTIONS = 4

const file = process.env.BENCH_HEAP_FILE
if (file !== undefined) {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  process.on('SIGUSR2', () => {
    let left = COLLECTIONS
    const goOn = (): void => {
      collect()
      left -= 1
      if (left > 0) setImmediate(goOn)
      else appendFileSync(file, `${process.memoryUsage().heapUsed}\n`)
    }
    goOn()
  })
}
