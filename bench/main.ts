import { readdir } from 'node:fs/promises'

/** `npm run bench <name>`: runs one bench, each of which answers one question. */
const folder = new URL('.', import.meta.url)
const names = (await readdir(folder))
  .filter((file) => file.endsWith('.js') && file !== 'main.js')
  .map((file) => file.slice(0, -3))
const name = process.argv[2]
if (name === undefined || !names.includes(name)) {
  process.stderr.write(`which bench? ${names.join(', ')}\n`)
  process.exit(2)
}
await import(new URL(`${name}.js`, folder).href)
