import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { type Resources, systemResources } from '../../src/gateway/resources.ts'
import { eventually } from '../support/eventually.ts'

const GIB = 2 ** 30

/** A system with these files and no others. */
function systemOf(files: Readonly<Record<string, string | number>>): Resources {
  const root = mkdtempSync(join(tmpdir(), 'beacon-resources-'))
  onTestFinished(() => rmSync(root, { recursive: true }))
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), `${content}\n`)
  }
  return measured(systemResources(root))
}

function measured(resources: Resources): Resources {
  onTestFinished(() => resources.stop())
  return resources
}

const MEMINFO = 'MemTotal:       16000000 kB\nMemFree:          500000 kB\nMemAvailable:    4000000 kB'

test('this machine: every reading makes sense', async () => {
  const resources = measured(systemResources())
  const limit = resources.descriptorLimit!
  expect(limit).toBeGreaterThan(16)
  const before = resources.openDescriptors()!
  expect(before).toBeGreaterThan(2)
  const files = Array.from({ length: 100 }, () => openSync('/dev/null', 'r'))
  expect(resources.openDescriptors()! - before).toBeGreaterThanOrEqual(90)
  for (const file of files) closeSync(file)
  expect(resources.heapShare()).toBeGreaterThan(0)
  expect(resources.heapShare()).toBeLessThan(1)
  expect(resources.memoryShare()).toBeGreaterThan(0)
  expect(resources.memoryShare()).toBeLessThanOrEqual(1)
})

test('the event loop: held up in every turn, it says so, and no longer when it is free', async () => {
  const resources = measured(systemResources())
  await eventually(() => {
    const until = performance.now() + 100
    while (performance.now() < until);
    return resources.eventLoopDelayMs() > 70
  }, 'a delay')
  await eventually(() => {
    const delayMs = resources.eventLoopDelayMs()
    return delayMs > 0 && delayMs < 50
  }, 'an end of the delay')
})

test('a system without /proc: what cannot be known stops nobody', () => {
  const resources = systemOf({})
  // By Node's own report.
  expect(resources.descriptorLimit).toBeGreaterThan(16)
  expect(resources.memoryShare()).toBe(0)
})

test('the soft limit counts', () => {
  const limits =
    'Limit                     Soft Limit           Hard Limit           Units\n' +
    'Max open files            1024                 1048576              files'
  expect(systemOf({ 'proc/self/limits': limits }).descriptorLimit).toBe(1_024)
})

test('no limit is none', () => {
  const limits = 'Max open files            unlimited            unlimited            files'
  expect(systemOf({ 'proc/self/limits': limits }).descriptorLimit).toBeUndefined()
})

test('a machine without limits: what is available counts, not what is free', () => {
  expect(systemOf({ 'proc/meminfo': MEMINFO }).memoryShare()).toBe(0.75)
})

test('control groups, version 2: the tightest above us counts, without what the kernel gives back', () => {
  const resources = systemOf({
    'proc/meminfo': MEMINFO,
    'proc/self/cgroup': '0::/system.slice/beacon.service',
    'sys/fs/cgroup/system.slice/beacon.service/memory.max': 'max',
    'sys/fs/cgroup/system.slice/beacon.service/memory.current': GIB,
    'sys/fs/cgroup/system.slice/memory.max': 2 * GIB,
    'sys/fs/cgroup/system.slice/memory.current': 2 * GIB,
    'sys/fs/cgroup/system.slice/memory.stat': `anon 1\ninactive_file ${Math.round(0.2 * GIB)}\nactive_file 5`,
  })
  expect(resources.memoryShare()).toBeCloseTo(0.9, 5)
})

test('control groups, version 1: within a container only the end of the path is there', () => {
  const resources = systemOf({
    'proc/self/cgroup': '9:name=systemd:/x\n4:cpu,memory:/docker/0123\n0::/',
    'sys/fs/cgroup/memory/memory.limit_in_bytes': GIB,
    'sys/fs/cgroup/memory/memory.usage_in_bytes': GIB,
    'sys/fs/cgroup/memory/memory.stat': `inactive_file 3\ntotal_inactive_file ${0.5 * GIB}`,
  })
  expect(resources.memoryShare()).toBeCloseTo(0.5, 5)
})

test('control groups, version 1: a number beyond all memory is no limit', () => {
  const resources = systemOf({
    'proc/self/cgroup': '4:memory:/',
    'sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712',
    'sys/fs/cgroup/memory/memory.usage_in_bytes': GIB,
  })
  expect(resources.memoryShare()).toBe(0)
})

test('files that say nothing usable are as good as none', () => {
  const resources = systemOf({
    'proc/meminfo': 'MemTotal: 0 kB\nMemAvailable: 0 kB',
    'proc/self/cgroup': 'nonsense\n0::\n::/\n4:memory:relative',
    'proc/self/limits': '',
  })
  expect([resources.memoryShare(), resources.descriptorLimit]).toEqual([0, undefined])
})
