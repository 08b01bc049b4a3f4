import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { askRunningAgent, type Lock, takeLock } from '../../agent/lock.ts'
import { systemClock, systemRandom } from '../../agent/runtime.ts'
import { placesAt, temporaryFolder } from './support/agent-process.ts'

const take = (config: string) => takeLock(placesAt(config), systemClock, systemRandom)

describe('the lock on an identity', () => {
  test('is held by one, and free when it is let go', async () => {
    const config = join(temporaryFolder(), 'agent.toml')
    const first = (await take(config))!
    expect(await take(config)).toBeUndefined()
    first.release()
    const second = (await take(config))!
    second.release()
    expect(readdirSync(join(config, '..'))).toEqual([])
  })

  test('however many try at once, one at most gets it', async () => {
    const config = join(temporaryFolder(), 'agent.toml')
    const all = await Promise.all(Array.from({ length: 8 }, () => take(config)))
    const held = all.filter((lock) => lock !== undefined)
    expect(held.length).toBeLessThanOrEqual(1)
    for (const lock of held) lock.release()
  })

  test('of two that try at once, one gets it', async () => {
    const config = join(temporaryFolder(), 'agent.toml')
    for (let turn = 0; turn < 5; turn++) {
      const held = (await Promise.all([take(config), take(config)])).filter((lock) => lock !== undefined)
      expect(held).toHaveLength(1)
      held[0]!.release()
    }
  })

  test('two identities in one folder do not meet', async () => {
    const folder = temporaryFolder()
    const locks = [await take(join(folder, 'one.toml')), await take(join(folder, 'two.toml'))]
    expect(locks.every((lock) => lock !== undefined)).toBe(true)
    for (const lock of locks) lock!.release()
  })

  test('its holder answers for itself, also from a folder deeper than a socket address is long', async () => {
    const folder = join(temporaryFolder(), 'a'.repeat(60), 'b'.repeat(60))
    mkdirSync(folder, { recursive: true })
    const places = placesAt(join(folder, 'agent.toml'))
    const lock: Lock = (await takeLock(places, systemClock, systemRandom))!
    lock.answerWith(() => ({ hello: 'there' }))
    expect(await askRunningAgent(places, systemClock)).toEqual({ hello: 'there' })
    expect(await takeLock(places, systemClock, systemRandom)).toBeUndefined()
    lock.release()
    expect(await askRunningAgent(places, systemClock)).toBeUndefined()
  })

  test('nobody answers where nobody is', async () => {
    expect(await askRunningAgent(placesAt('/nowhere/at/all/agent.toml'), systemClock)).toBeUndefined()
  })
})
