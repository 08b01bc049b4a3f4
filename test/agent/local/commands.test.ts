import { describe, expect, test } from 'vitest'
import {
  askLocally,
  clearFault,
  type LocalCommand,
  listFaults,
  raiseFault,
  sendEvent,
  setMetrics,
  unsetMetrics,
} from '../../../agent/local/commands.ts'
import { parseRequest } from '../../../agent/local/requests.ts'
import { systemClock } from '../../../agent/runtime.ts'

describe('what a command asks for is what the agent understands', () => {
  const commands: LocalCommand[] = [
    setMetrics(['a=1', 'b=-2.5', 'c=1e3'], '60'),
    setMetrics(['a=1'], undefined),
    unsetMetrics(['a', 'b']),
    sendEvent({ code: 'door', message: 'open', level: 'warn', data: '{"a":1}' }),
    sendEvent({ code: 'door', message: '' }),
    raiseFault({ code: 'arm', message: 'stuck', level: 'fatal', ttl: '5' }),
    clearFault('arm'),
    listFaults(),
  ]
  for (const { request } of commands)
    test(JSON.stringify(request), () => {
      expect(parseRequest(JSON.stringify(request))).toMatchObject({ ok: true, request })
    })
})

describe('mistakes are told before any agent is asked, with the exit code of one', () => {
  const cases: [build: () => LocalCommand, error: RegExp][] = [
    [() => setMetrics(['a'], undefined), /"a" must be name=number/],
    [() => setMetrics(['a=x'], undefined), /name=number/],
    [() => setMetrics(['a='], undefined), /name=number/],
    [() => setMetrics(['a=1=2'], undefined), /name=number/],
    [() => setMetrics(['a=Infinity'], undefined), /name=number/],
    [() => setMetrics(['A=1'], undefined), /lower-case/],
    [() => setMetrics(['beacon_x=1'], undefined), /agent's own/],
    [() => setMetrics(['a=1'], 'soon'), /--ttl/],
    [() => setMetrics(['a=1'], '0'), /ttl_s/],
    [() => sendEvent({ code: 'y', message: '', level: 'loud' }), /event\.level/],
    [() => sendEvent({ code: 'y', message: '', data: '[1]' }), /event\.data/],
    [() => sendEvent({ code: 'y', message: '', data: '{' }), /--data/],
    [() => sendEvent({ code: 'y', message: 'x'.repeat(1_025) }), /event\.message/],
    [() => raiseFault({ code: '', message: '' }), /code/],
  ]
  for (const [index, [build, error]] of cases.entries())
    test(`${index + 1}: ${error}`, async () => {
      const asked = async () => askLocally('/nowhere/agent.sock', build(), systemClock, false)
      await expect(asked()).rejects.toMatchObject({ exitCode: 2, message: expect.stringMatching(error) })
    })
})

test('faults are listed one on each line, whatever their messages hold', () => {
  const fault = { code: 'arm', level: 'warn', message: 'a\nb\u001b[31m', since: '2026-01-01T00:00:00Z' }
  expect(listFaults().tell({ faults: [fault] })).toEqual(['warn  arm  since 2026-01-01T00:00:00Z  a b [31m'])
})
