export interface Point {
  readonly hours: number
  readonly value: number
}

/** How much a value grows in an hour, with the bounds between which that lies in 19 of 20 cases. */
export interface Trend {
  readonly perHour: number
  readonly low: number
  readonly high: number
}

/** Samples that follow one another closely say nearly the same: the means of so many blocks stand for them. */
const BLOCKS = 10
/** Student's t for that many blocks and a line of two parameters, both sides together 5 %. */
const T = 2.306

/** The line of least squares through the means of ten blocks of samples, which come in the order of their time. */
export function trendOf(points: readonly Point[]): Trend {
  if (points.length < BLOCKS) throw new Error(`a trend takes at least ${BLOCKS} samples`)
  const blocks = Array.from({ length: BLOCKS }, (_, index) => {
    const [from, to] = [index, index + 1].map((edge) => Math.floor((edge * points.length) / BLOCKS))
    const block = points.slice(from, to)
    return { x: meanOf(block.map(({ hours }) => hours)), y: meanOf(block.map(({ value }) => value)) }
  })
  const [x, y] = [meanOf(blocks.map((block) => block.x)), meanOf(blocks.map((block) => block.y))]
  const width = sum(blocks.map((block) => (block.x - x) ** 2))
  const perHour = sum(blocks.map((block) => (block.x - x) * (block.y - y))) / width
  const rest = sum(blocks.map((block) => (block.y - y - perHour * (block.x - x)) ** 2))
  const error = T * Math.sqrt(rest / (BLOCKS - 2) / width)
  return { perHour, low: perHour - error, high: perHour + error }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

function meanOf(values: readonly number[]): number {
  return sum(values) / values.length
}
