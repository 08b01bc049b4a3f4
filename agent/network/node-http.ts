import type * as Http from 'node:http'
import type * as Https from 'node:https'

// Not by import: since Node 22 a module that imports node:http is given all that is in it at once, Node's own WebSocket
// and with it `fetch` and its WebAssembly, too. The agent uses neither, and they would take 7 MB of a robot's memory.
const http: typeof Http = process.getBuiltinModule('node:http')
const https: typeof Https = process.getBuiltinModule('node:https')

/** Of node:http. */
export const httpRequest = http.request
/** Of node:https. */
export const httpsRequest = https.request
