import { run } from './program.ts'
import { endWithNpm, joinEchoedSignals } from './signals.ts'
import { processTerminal } from './terminal.ts'

endWithNpm(joinEchoedSignals())
const exitCode = await run(process.argv.slice(2), processTerminal())
if (exitCode !== undefined) process.exitCode = exitCode
