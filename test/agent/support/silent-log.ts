import type { Log } from '../../../agent/log.ts'

export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} }
