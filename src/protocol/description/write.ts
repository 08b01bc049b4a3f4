import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describedFiles } from './files.ts'

// Writes docs/protocol anew, from the root of the repository: npm run protocol-docs.
for (const [path, content] of describedFiles()) {
  const file = join('docs', 'protocol', path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, `${JSON.stringify(content, null, 2)}\n`)
}
