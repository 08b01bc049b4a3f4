import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { relative } from 'node:path'

// Loaded before anything else (node --import): counts the calls into node:fs that touch a folder, and at one of them the
// process is killed, before or after it, or half way through a write; or the call fails, or does half.
//
//   FAULT_FOLDER   the folder
//   FAULT_AT       number of the call, from 1; 0: none
//   FAULT          before | after | torn | short (a write takes half) | an error code such as ENOSPC
//   FAULT_FROM     a signal: calls are counted from when it comes; without it from the start

const folder = process.env.FAULT_FOLDER
const at = Number(process.env.FAULT_AT)
const fault = process.env.FAULT
const calls = []
let isCounting = !process.env.FAULT_FROM
if (process.env.FAULT_FROM)
  process.on(process.env.FAULT_FROM, () => {
    isCounting = true
  })
const files = new Set()
const isInside = (path) => typeof path === 'string' && !relative(folder, path).startsWith('..')

const BY_PATH = [
  'openSync',
  'linkSync',
  'renameSync',
  'rmSync',
  'unlinkSync',
  'mkdirSync',
  'copyFileSync',
  'chmodSync',
]
const BY_FILE = [
  'writeSync',
  'fsyncSync',
  'fdatasyncSync',
  'ftruncateSync',
  'closeSync',
  'fsync',
  'fdatasync',
]

function die() {
  process.kill(process.pid, 'SIGKILL')
}

for (const name of [...BY_PATH, ...BY_FILE]) {
  const original = fs[name]
  fs[name] = (...args) => {
    const [target] = args
    if (!(typeof target === 'number' ? files.has(target) : isInside(target))) return original(...args)
    if (isCounting) calls.push(name)
    const isNow = isCounting && calls.length === at
    if (isNow && fault === 'before') die()
    if (isNow && fault === 'torn' && name === 'writeSync') {
      original(target, args[1].subarray(0, args[1].length >> 1))
      die()
    }
    if (isNow && fault === 'short' && name === 'writeSync')
      return original(target, args[1].subarray(0, args[1].length >> 1))
    if (isNow && /^E[A-Z]+$/.test(fault))
      throw Object.assign(new Error(`${fault}: made up, ${name}`), { code: fault })
    let result
    try {
      result = original(...args)
    } finally {
      if (isNow && fault === 'after') die()
    }
    if (name === 'openSync') files.add(result)
    if (name === 'closeSync') files.delete(target)
    return result
  }
}
syncBuiltinESMExports()

globalThis.fileCalls = calls
