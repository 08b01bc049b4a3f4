/**
 * Runs items in as few rounds as it takes for no two of one round to have the same key, in order: as if each that has to
 * wait for another of its key had come later. `run` answers in the order of what it is given.
 */
export async function inRounds<Item, Result>(
  items: readonly Item[],
  keyOf: (item: Item) => string,
  run: (round: readonly Item[]) => Promise<readonly Result[]>,
): Promise<readonly Result[]> {
  // Nearly always no two have the same.
  if (new Set(items.map(keyOf)).size === items.length) return run(items)
  const results: Result[] = new Array(items.length)
  let left = items.map((_, index) => index)
  while (left.length > 0) {
    const firsts = new Map<string, number>()
    for (const index of left) {
      const key = keyOf(items[index]!)
      if (!firsts.has(key)) firsts.set(key, index)
    }
    const round = [...firsts.values()]
    const answers = await run(round.map((index) => items[index]!))
    for (const [place, index] of round.entries()) results[index] = answers[place]!
    const done = new Set(round)
    left = left.filter((index) => !done.has(index))
  }
  return results
}
