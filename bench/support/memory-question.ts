/** What a server with `programs/memory-probe.ts` answers. */
export const MEMORY_QUESTION = 'what is your memory made of?'

/** Bytes; of the heap that which is alive, for what is garbage was collected just before. */
export interface MemoryAnswer {
  readonly heapUsed: number
  readonly heapTotal: number
  readonly external: number
}
