import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'
import { defineConfig, type Plugin } from 'vite'

const outDir = join(import.meta.dirname, '../dist/dashboard')

/** Leaves each asset in compressed forms beside it, so that the server compresses nothing while it serves robots. */
const compressed: Plugin = {
  name: 'compressed',
  apply: 'build',
  closeBundle() {
    const folder = join(outDir, 'assets')
    for (const file of readdirSync(folder)) {
      if (!/\.(js|css|svg)$/.test(file)) continue
      const bytes = readFileSync(join(folder, file))
      const size = { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length }
      writeFileSync(join(folder, `${file}.br`), brotliCompressSync(bytes, { params: size }))
      writeFileSync(join(folder, `${file}.gz`), gzipSync(bytes, { level: 9 }))
    }
  },
}

/** `npm run dashboard` beside a server on its usual port. */
const SERVER = 'http://127.0.0.1:8080'

export default defineConfig({
  root: import.meta.dirname,
  plugins: [compressed],
  build: { outDir, emptyOutDir: true, target: 'es2022', assetsInlineLimit: 0, reportCompressedSize: false },
  server: { proxy: { '/api': SERVER, '/install': SERVER, '/install.sh': SERVER, '/docs': SERVER } },
})
