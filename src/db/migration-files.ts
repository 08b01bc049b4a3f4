import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { packageRoot } from '../package.ts'

export interface Migration {
  readonly version: number
  readonly name: string
  readonly sql: string
  /** Hex. */
  readonly sha256: string
}

export const migrationsFolder = join(packageRoot, 'migrations')

const FILE = /^(\d{4})_([a-z0-9_]+)\.sql$/

/** Every `NNNN_name.sql` of the folder in order; their numbers run from 0001 without a gap. */
export async function readMigrations(folder: string): Promise<readonly Migration[]> {
  const names = (await readdir(folder)).filter((name) => FILE.test(name)).sort()
  const migrations = await Promise.all(
    names.map(async (file) => {
      const [, number = '', name = ''] = FILE.exec(file)!
      const sql = await readFile(join(folder, file), 'utf8')
      return {
        version: Number(number),
        name,
        sql,
        // A checkout on Windows may have other line ends; the migration is the same.
        sha256: createHash('sha256').update(sql.replaceAll('\r\n', '\n')).digest('hex'),
      }
    }),
  )
  for (const [index, { version, name }] of migrations.entries())
    if (version !== index + 1)
      throw new Error(`${folder}: the migration ${name} has number ${version}, where ${index + 1} was due`)
  return migrations
}
