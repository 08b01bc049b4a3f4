import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { environmentOfService, variablesIn, withVariables } from '../../../agent/service/environment-file.ts'
import { SYSTEM_LAYOUT, userLayout } from '../../../agent/service/layout.ts'
import { unitWord } from '../../../agent/service/quoting.ts'
import { type UnitWish, unitText } from '../../../agent/service/unit.ts'
import { temporaryFolder } from '../support/agent-process.ts'

const system: UnitWish = {
  layout: SYSTEM_LAYOUT,
  command: ['/bin/sh', '/etc/passwd', 'run'],
  version: 252,
  hasNotify: true,
  group: 'beacon-robot',
}
const user: UnitWish = {
  ...system,
  layout: userLayout('/home/ada', '/home/ada/.config/roboflare/agent.toml'),
  group: undefined,
}

/** The settings of a section, each with all the values that it is given. */
function settingsOf(text: string, section: string): Map<string, string[]> {
  const settings = new Map<string, string[]>()
  let current = ''
  for (const line of text.split('\n').filter((each) => each !== '' && !each.startsWith('#'))) {
    const head = /^\[(\w+)\]$/.exec(line)
    if (head) current = head[1]!
    const [, name, value] = /^([A-Z]\w*)=(.*)$/.exec(line) ?? []
    expect(head ?? name, line).toBeTruthy()
    if (current === section && name) settings.set(name, [...(settings.get(name) ?? []), value!])
  }
  return settings
}

describe('the unit of the machine', () => {
  const service = settingsOf(unitText(system), 'Service')

  test('is watched, restarts for ever, and stops where only a person can help', () => {
    expect(service.get('Type')).toEqual(['notify'])
    expect(service.get('NotifyAccess')).toEqual(['all'])
    expect(service.get('WatchdogSec')).toEqual(['3min'])
    expect(service.get('Restart')).toEqual(['always'])
    expect(service.get('RestartPreventExitStatus')).toEqual(['3 5'])
    expect(settingsOf(unitText(system), 'Unit').get('StartLimitIntervalSec')).toEqual(['0'])
  })

  test('has its lines in the journal under its own name', () => {
    expect(service.get('SyslogIdentifier')).toEqual(['beacon-agent'])
    expect(settingsOf(unitText(user), 'Service').get('SyslogIdentifier')).toEqual(['beacon-agent'])
  })

  test('holds nothing of the boot up, though it is wanted by it', () => {
    expect(settingsOf(unitText(system), 'Unit').get('After')![0]).toContain('multi-user.target')
    expect(settingsOf(unitText(system), 'Install').get('WantedBy')).toEqual(['multi-user.target'])
  })

  test('has a user of its own, and one folder', () => {
    expect(service.get('DynamicUser')).toEqual(['yes'])
    expect(service.get('StateDirectory')).toEqual(['beacon'])
    expect(service.get('RuntimeDirectory')).toEqual(['beacon'])
    expect(service.get('ProtectSystem')).toEqual(['strict'])
    expect(service.get('NoNewPrivileges')).toEqual(['yes'])
    expect(service.get('CapabilityBoundingSet')).toEqual([''])
    expect(service.get('Environment')).toEqual(['"BEACON_CONFIG=/var/lib/beacon/agent.toml"'])
  })

  test('sees home folders only where its program lies', () => {
    const inHome = { ...system, command: ['/home/ada/agent/node', 'run'] }
    expect(service.get('ProtectHome')).toEqual(['yes'])
    expect(settingsOf(unitText(inHome), 'Service').get('ProtectHome')).toEqual(['read-only'])
  })

  test('has no group where there is none', () => {
    expect(service.get('Group')).toEqual(['beacon-robot'])
    expect(unitText({ ...system, group: undefined })).not.toContain('Group=')
  })
})

describe('by the version of systemd', () => {
  const service = (version: number | undefined, more: Partial<UnitWish> = {}) =>
    settingsOf(unitText({ ...system, version, ...more }), 'Service')

  test('the pause before a restart grows where systemd can do that', () => {
    const grown = service(254)
    expect(grown.get('RestartSec')).toEqual(['1s'])
    expect(grown.get('RestartMaxDelaySec')).toEqual(['5min'])
    expect(grown.get('RestartSteps')).toEqual(['8'])
    for (const version of [253, undefined]) {
      expect(service(version).get('RestartSec')).toEqual(['10s'])
      expect(service(version).has('RestartSteps')).toBe(false)
    }
  })

  test('it is not watched where what it says may be lost, or cannot be said', () => {
    for (const blind of [service(245), service(252, { hasNotify: false })]) {
      expect(blind.get('Type')).toEqual(['simple'])
      expect(blind.has('WatchdogSec')).toBe(false)
      expect(blind.has('TimeoutStartSec')).toBe(false)
    }
  })
})

test('a user has a unit without what only root can ask for', () => {
  const service = settingsOf(unitText(user), 'Service')
  expect(service.has('DynamicUser')).toBe(false)
  expect(service.has('RuntimeDirectory')).toBe(false)
  expect(service.get('NoNewPrivileges')).toEqual(['yes'])
  expect(settingsOf(unitText(user), 'Install').get('WantedBy')).toEqual(['default.target'])
})

test('systemd finds nothing wrong with either, where it is there to be asked', () => {
  const folder = temporaryFolder()
  const awkward = join(folder, 'a b%c$d"e')
  writeFileSync(awkward, '')
  for (const wish of [system, user, { ...system, command: ['/bin/sh', awkward, 'run'] }]) {
    const text = unitText(wish)
    expect(settingsOf(text, 'Service').get('ExecStart')).toHaveLength(1)
    const file = join(folder, 'beacon-agent.service')
    writeFileSync(file, text)
    if (!existsSync('/usr/bin/systemd-analyze')) continue
    const said = spawnSync('/usr/bin/systemd-analyze', ['verify', file], { encoding: 'utf8' })
    // Of other units of this machine it may complain.
    expect(said.stderr.split('\n').filter((line) => line.includes('beacon-agent'))).toEqual([])
    expect(said.status).toBe(0)
  }
})

describe('words mean nothing but themselves to systemd', () => {
  /** As systemd.syntax(7) and systemd.service(5) read one word. */
  const read = (word: string) => {
    const bare = /^"(.*)"$/s.exec(word)?.[1] ?? word
    return bare
      .replaceAll('$$', '$')
      .replaceAll('%%', '%')
      .replace(/\\(.)/gs, (_, letter) => ({ n: '\n', t: '\t' })[letter as string] ?? letter)
  }

  test('whatever stands in a path', () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 1, unit: fc.constantFrom(...'ab/ %$"\\\'\n\t;#=\u00e9') }),
        (path) => {
          const word = unitWord(path)
          expect(read(word)).toBe(path)
          expect(word).not.toContain('\n')
          if (/[\s;#'"\\]/.test(path)) expect(word).toMatch(/^".*"$/s)
        },
      ),
    )
  })
})

describe('the file of settings', () => {
  test('keeps what a person wrote, and its own lines once', () => {
    const first = withVariables(undefined, { BEACON_SERVER: 'https://one.example', BEACON_NAME: 'Ada "2"' })
    expect(first).toMatch(/^#.*\nBEACON_SERVER=https:\/\/one\.example\nBEACON_NAME="Ada \\"2\\""\n$/)
    const edited = `${first}HTTPS_PROXY=http://proxy:3128`
    const second = withVariables(edited, { BEACON_SERVER: 'https://two.example/$&' })
    expect(second).toContain('BEACON_SERVER="https://two.example/\\$&"\n')
    expect(second).toMatch(/HTTPS_PROXY=http:\/\/proxy:3128\n$/)
    expect(second.match(/BEACON_SERVER/g)).toHaveLength(1)
    expect(withVariables(second, {})).toBe(second)
  })

  test('are read as they were written', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (value) => {
        fc.pre(!/[\p{Cc}\u2028\u2029]/u.test(value))
        expect(variablesIn(withVariables(undefined, { BEACON_NAME: value }))).toEqual({ BEACON_NAME: value })
      }),
    )
    expect(variablesIn("#A=1\n B = two words \nC='a \\ b'\nB=three\nnothing\n")).toEqual({
      B: 'three',
      C: 'a \\ b',
    })
  })

  test('are what doctor goes by where the service is installed', () => {
    const folder = temporaryFolder()
    const layout = { unit: join(folder, 'unit'), environmentFile: join(folder, 'agent.env') }
    writeFileSync(layout.environmentFile, 'BEACON_CA_FILE=/etc/beacon/agent-ca.pem\n')
    expect(environmentOfService(layout, { A: '1' })).toEqual({ A: '1' })
    writeFileSync(layout.unit, '')
    const both = { A: '1', BEACON_CA_FILE: '/etc/beacon/agent-ca.pem' }
    expect(environmentOfService(layout, { A: '1', BEACON_CA_FILE: '/x' })).toEqual(both)
    expect(environmentOfService({ ...layout, environmentFile: folder }, { A: '1' })).toEqual({ A: '1' })
  })
})
