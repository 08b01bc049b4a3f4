import { followNpm } from './npm.ts'
import { run } from './program.ts'
import { processTerminal } from './terminal.ts'

followNpm()
const exitCode = await run(process.argv.slice(2), processTerminal())
if (exitCode !== undefined) process.exitCode = exitCode
