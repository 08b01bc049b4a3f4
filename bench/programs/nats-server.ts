import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

// Keeps a nats-server with a WebSocket listener and one token for all, and ends it with itself. Says its port and process.

const folder = mkdtempSync(join(tmpdir(), 'beacon-bench-nats-'))
const settings = join(folder, 'nats.conf')
writeFileSync(
  settings,
  `host: 127.0.0.1
port: -1
websocket { host: 127.0.0.1, port: -1, no_tls: true, compression: false }
authorization { token: ${JSON.stringify(process.argv[2])} }
ping_interval: "1h"
max_payload: 16384
`,
)
const nats = spawn('nats-server', ['-c', settings], { stdio: ['ignore', 'ignore', 'pipe'] })
let printed = ''
nats.stderr.setEncoding('utf8').on('data', (text: string) => {
  if (printed.endsWith('ready')) return
  printed += text
  const port = /websocket clients on ws:\/\/[^:\s]+:(\d+)/.exec(printed)?.[1]
  if (port === undefined || !printed.includes('Server is ready')) return
  process.stdout.write(`listening on port ${port} as process ${nats.pid}\n`)
  printed = 'ready'
})
nats.on('error', (error) => {
  process.stderr.write(`${error.message}\n`)
  process.exit(1)
})
nats.on('exit', (code) => {
  rmSync(folder, { recursive: true, force: true })
  process.exit(code ?? 1)
})
process.on('SIGTERM', () => nats.kill('SIGTERM'))
