import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from './agent-process.ts'

/** Programs that write down how they were called, for a PATH of their own. */
export class Recorder {
  readonly folder = temporaryFolder()
  readonly path = join(this.folder, 'bin')

  constructor() {
    mkdirSync(this.path)
  }

  /** Adds a program that does this much, in the language of /bin/sh, after writing its arguments down. */
  add(name: string, script = ''): this {
    const file = join(this.path, name)
    const lines = [
      '#!/bin/sh',
      // One write for one call, so that two calls at once do not mix.
      `printf '%s\\n' "${name} $*" >> ${this.#record}`,
      script,
      '',
    ]
    writeFileSync(file, lines.join('\n'))
    chmodSync(file, 0o755)
    return this
  }

  /** Makes an empty file beside the programs, for their scripts to look for. */
  open(name: string): void {
    writeFileSync(join(this.folder, name), '')
  }

  /** The calls so far, in order, with their arguments. */
  get calls(): string[] {
    return existsSync(this.#record) ? readFileSync(this.#record, 'utf8').split('\n').slice(0, -1) : []
  }

  get #record(): string {
    return join(this.folder, 'calls')
  }
}
