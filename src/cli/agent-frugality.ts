import { spareMemory } from '../../agent/frugality.ts'

spareMemory(process.execArgv, process.env.NODE_OPTIONS)
