import { ROLES } from './format.js'

/**
 * Which rows of a store count:
 * - `all`
 * - `assistant`: rows whose role is assistant
 * - `prompt`: the others
 * - `last-prompt`: of each sequence the last row before its last answer, or its last row where nobody answers
 * - a mask [rows] over the whole store, not 0 for rows that count
 */
export type RowSelection = 'all' | 'assistant' | 'prompt' | 'last-prompt' | Uint8Array

/** What selecting needs to know of a shard. */
export interface SelectableRows {
  rows: number
  firstRow: number
  /** [s + 1]: where each sequence begins. */
  offsets: ArrayLike<number>
  roles: Uint8Array | undefined
}

/** Rows of a shard that count, rising; undefined for all of them. */
export function selectRows(shard: SelectableRows, selection: RowSelection): Uint32Array | undefined {
  if (selection === 'all') return undefined
  const { rows, roles, offsets, firstRow } = shard
  const rowsWhere = (holds: (row: number) => boolean): Uint32Array => {
    const found = new Uint32Array(rows)
    let count = 0
    for (let row = 0; row < rows; row++) if (holds(row)) found[count++] = row
    return found.slice(0, count)
  }
  if (typeof selection !== 'string') return rowsWhere((row) => selection[firstRow + row] !== 0)
  const answers = (row: number): boolean => roles?.[row] === ROLES.assistant
  if (selection === 'assistant') return rowsWhere(answers)
  if (selection === 'prompt') return rowsWhere((row) => !answers(row))
  const last: number[] = []
  for (let i = 0; i + 1 < offsets.length; i++) {
    const begin = offsets[i]!
    let row = offsets[i + 1]! - 1
    // Back over what follows the last answer, then over the answer itself.
    let answer = row
    while (answer >= begin && !answers(answer)) answer--
    if (answer >= begin) {
      row = answer
      while (row >= begin && answers(row)) row--
    }
    if (row >= begin) last.push(row)
  }
  return Uint32Array.from(last)
}
