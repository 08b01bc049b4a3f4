// Loaded into gateway processes before their program: takes file descriptors until few are left. A limit that low from
// the start would not let them load their modules.
import { openSync } from 'node:fs'

const [program, leave] = [process.argv[1] ?? '', Number(process.env.TEST_DESCRIPTORS_LEFT)]

if (program.endsWith('/processes/main.js')) {
  await import(new URL('../../dist/src/processes/gateway-process.js', import.meta.url))
  const limit = process.report.getReport().userLimits.open_files.soft
  for (let taken = openSync('/dev/null'); taken < limit - leave; ) taken = openSync('/dev/null')
}
