import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** How many files and sockets this process may have open; undefined where it cannot be known. Node has raised it already. */
export function descriptorLimit(root = '/'): number | undefined {
  let limits: string
  try {
    limits = readFileSync(join(root, 'proc/self/limits'), 'utf8')
  } catch {
    return reportedDescriptorLimit()
  }
  const soft = /^Max open files\s+(\d+)/m.exec(limits)?.[1]
  return soft === undefined ? undefined : Number(soft)
}

/** As Node tells it, at the cost of a whole report: for systems without /proc. */
function reportedDescriptorLimit(): number | undefined {
  // Newer than the type definitions.
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean }
  const before = report.excludeNetwork ?? false
  // Looking up its addresses' names can take seconds.
  report.excludeNetwork = true
  const { userLimits } = report.getReport() as { userLimits?: { open_files?: { soft?: unknown } } }
  report.excludeNetwork = before
  const soft = userLimits?.open_files?.soft
  return typeof soft === 'number' ? soft : undefined
}
