import { requireArgument } from '../core/errors.js'
import { Random } from '../core/random.js'

const blockRows = 256

/**
 * The row numbers of one epoch in shuffled order, in runs. A store of at most `shuffleRows` rows is shuffled exactly; a
 * larger one in two levels: blocks of 256 neighbouring rows over the whole store, then rows over this many. Bounds memory
 * and scattered reads.
 */
export function* shuffledRows(
  rows: number,
  seed: number,
  epoch: number,
  shuffleRows: number,
): Generator<Float64Array> {
  requireArgument(
    Number.isSafeInteger(shuffleRows) && shuffleRows > 0,
    `shuffleRows: found ${shuffleRows}, expected a positive whole number`,
  )
  const blocks = Math.ceil(rows / blockRows)
  const rowsOfBlock = (block: number): number => Math.min(blockRows, rows - block * blockRows)
  const random = new Random(seed).fork(`epoch ${epoch}`)
  const order = Float64Array.from({ length: blocks }, (_, i) => i)
  shuffleInPlace(order, random)
  for (let at = 0; at < blocks;) {
    let end = at
    let count = 0
    while (end < blocks && (end === at || count + rowsOfBlock(order[end] as number) <= shuffleRows))
      count += rowsOfBlock(order[end++] as number)
    const run = new Float64Array(count)
    let filled = 0
    for (; at < end; at++) {
      const block = order[at] as number
      for (let i = 0; i < rowsOfBlock(block); i++) run[filled++] = block * blockRows + i
    }
    shuffleInPlace(run, random)
    yield run
  }
}

/** Fisher and Yates. */
function shuffleInPlace(values: Float64Array, random: Random): void {
  for (let i = values.length - 1; i > 0; i--) {
    const j = random.integer(i + 1)
    const value = values[i] as number
    values[i] = values[j] as number
    values[j] = value
  }
}
