import { expect, test } from 'vitest'
import { GroupFullError, Grouping } from '../src/grouping.ts'
import { eventually } from './support/eventually.ts'

/** A grouping whose groups end when they are told to. */
function grouping(limits: { maxGroup?: number; maxWaiting?: number } = {}) {
  const groups: { items: readonly number[]; answer: () => void; fail: (error: Error) => void }[] = []
  const of = new Grouping<number, number>({
    maxGroup: 100,
    maxWaiting: 100,
    ...limits,
    run: (items) =>
      new Promise((resolve, reject) => {
        groups.push({ items, answer: () => resolve(items.map((item) => item * 10)), fail: reject })
      }),
  })
  return { of, groups, begun: (count: number) => eventually(() => groups.length === count, `group ${count}`) }
}

test('what comes in one turn goes out together, and what comes meanwhile after it, each with its own answer', async () => {
  const { of, groups, begun } = grouping()
  const first = [of.add(1), of.add(2)]
  await begun(1)
  const second = [of.add(3), of.add(4), of.add(5)]
  expect(groups.map((group) => group.items)).toEqual([[1, 2]])
  groups[0]!.answer()
  expect(await Promise.all(first)).toEqual([10, 20])
  await begun(2)
  expect(groups[1]!.items).toEqual([3, 4, 5])
  groups[1]!.answer()
  expect(await Promise.all(second)).toEqual([30, 40, 50])
  expect(of.busy).toBe(false)
})

test('no group is larger than it may be', async () => {
  const { of, groups, begun } = grouping({ maxGroup: 2 })
  const answers = [of.add(1), of.add(2), of.add(3)]
  await begun(1)
  groups[0]!.answer()
  await begun(2)
  groups[1]!.answer()
  expect(await Promise.all(answers)).toEqual([10, 20, 30])
  expect(groups.map((group) => group.items)).toEqual([[1, 2], [3]])
})

test('one too many is refused, whether its answer is waited for or not', async () => {
  const { of, groups, begun } = grouping({ maxWaiting: 2 })
  const answer = of.add(1)
  expect(of.offer(2)).toBe(true)
  expect(of.offer(3)).toBe(false)
  await expect(of.add(4)).rejects.toThrow(GroupFullError)
  await begun(1)
  expect(groups[0]!.items).toEqual([1, 2])
  // Those in flight do not wait any more.
  expect(of.offer(5)).toBe(true)
  groups[0]!.answer()
  expect(await answer).toBe(10)
})

test('a group that fails fails all who wait for it, and nobody else', async () => {
  const { of, groups, begun } = grouping()
  const failing = [of.add(1), of.add(2)]
  of.offer(3)
  await begun(1)
  const later = of.add(4)
  groups[0]!.fail(new Error('no luck'))
  for (const answer of failing) await expect(answer).rejects.toThrow('no luck')
  await begun(2)
  groups[1]!.answer()
  expect(await later).toBe(40)
})

test('is idle when all is answered, what nobody waits for included', async () => {
  const { of, groups, begun } = grouping()
  of.offer(1)
  let isIdle = false
  const idle = of.idle().then(() => {
    isIdle = true
  })
  await begun(1)
  expect([of.busy, isIdle]).toEqual([true, false])
  groups[0]!.answer()
  await idle
  expect([of.busy, of.waiting]).toEqual([false, 0])
})
