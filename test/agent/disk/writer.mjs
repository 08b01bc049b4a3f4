import { readSync, writeSync } from 'node:fs'
import { placesOf } from '../../../dist/agent/places.js'
import { Sequence } from '../../../dist/agent/sequence.js'
import { SessionCount } from '../../../dist/agent/session-count.js'
import { loadState, restoreState } from '../../../dist/agent/state-file.js'
import { Store } from '../../../dist/agent/store.js'

// A process that writes what an agent writes, as the agent does, and can be killed while it does so:
// writer.mjs <agent.toml> <what> [<JSON>]
//
// With WAIT set it begins once something comes on standard input.

const [config, what, json = 'null'] = process.argv.slice(2)
const places = placesOf({ config, env: {}, isRoot: false, accountHome: '/nowhere' })
const given = JSON.parse(json)
const say = (text) => writeSync(1, `${text}\n`)
const clock = { now: () => 0 }

const tasks = {
  claim: () => new Store(places, loadState(places).state).keepPending(given),
  become: () => new Store(places, loadState(places).state).becomeIdentity(given),
  identity: () => new Store(places, loadState(places).state).keepIdentity(given),
  restore: () => say(restoreState(places, loadState(places).state)),
  number: () => say(new Sequence(places.sequence, clock, (sentence) => say(sentence)).next()),
  session: () => new SessionCount(places.sessionCount, given.robotId, say).opened(given.sessionNo),
}

say('BEGIN')
if (process.env.WAIT) readSync(0, Buffer.alloc(1))
try {
  tasks[what]()
  say('END')
} catch (error) {
  if (error.exitCode === undefined) throw error
  say(`EXIT ${error.exitCode} ${error.message}`)
}
say(`CALLS ${globalThis.fileCalls?.join(' ')}`)
