/** A LatentDiff as a Parquet table: one row a latent, null where a figure is not defined. */
import { ByteWriter, ParquetWriter } from 'hyparquet-writer'
import { throwIfAborted, type TaskOptions } from '../core/task.js'
import { writeAtomic } from '../io/atomic.js'
import { version } from '../version.js'
import type { LatentChange, LatentDiff } from './diff.js'

/** The columns, in order: name, whether it may be null, value. */
const columns = [
  ['latent', 'u32', (one) => one.index],
  ['rank', 'u32', (one) => one.rank],
  ['mean_base', 'f64', (one) => one.meanBefore],
  ['mean_tuned', 'f64', (one) => one.meanAfter],
  ['delta', 'f64', (one) => one.delta],
  ['effect_size', 'f64?', (one) => one.effectSize],
  ['active_base', 'f64', (one) => one.shareBefore],
  ['active_tuned', 'f64', (one) => one.shareAfter],
  ['ci_low', 'f64?', (one) => one.low],
  ['ci_high', 'f64?', (one) => one.high],
  ['p_value', 'f64?', (one) => one.pValue],
  ['q_value', 'f64?', (one) => one.qValue],
] as const satisfies readonly (readonly [string, 'u32' | 'f64' | 'f64?', (one: LatentChange) => number])[]

const rowsAtOnce = 1 << 13

export interface DiffTableOptions extends TaskOptions {
  /** So many latents of largest increase and as many of largest decrease. Default: all latents. */
  top?: number | undefined
  /** Kept in the file for people, e.g. how it was made. */
  metadata?: Readonly<Record<string, string>>
}

/**
 * Writes the table by rising rank (1 is the largest increase), beside and renamed: `latent`, `rank`, `mean_base`,
 * `mean_tuned`, `delta`, `effect_size`, `active_base`, `active_tuned` (shares of rows), `ci_low`, `ci_high`, `p_value`,
 * `q_value`. Gives the number of rows.
 */
export async function writeDiffTable(
  path: string,
  diff: LatentDiff,
  options: DiffTableOptions = {},
): Promise<number> {
  const { latents } = diff
  const top = Math.min(options.top ?? latents, latents)
  // Ranks 1 … top and latents − top + 1 … latents, each once.
  const ends = Math.min(latents, 2 * top)
  const rankOf = (row: number): number => (row < top ? row + 1 : latents - ends + row + 1)
  return writeAtomic(path, async (write) => {
    const writer = new ByteWriter()
    const put = async (): Promise<void> => {
      throwIfAborted(options)
      await write(writer.getBytes().slice())
      writer.index = 0
    }
    const parquet = new ParquetWriter({
      writer,
      schema: [
        { name: 'root', num_children: columns.length },
        ...columns.map(([name, kind]) =>
          kind === 'u32'
            ? ({ name, type: 'INT32', converted_type: 'UINT_32', repetition_type: 'REQUIRED' } as const)
            : ({
                name,
                type: 'DOUBLE',
                repetition_type: kind === 'f64?' ? 'OPTIONAL' : 'REQUIRED',
              } as const),
        ),
      ],
      createdBy: `personascope ${version}`,
      kvMetadata: Object.entries({ latents: String(latents), ...options.metadata }).map(([key, value]) => ({
        key,
        value,
      })),
    })
    for (let first = 0; first < ends; first += rowsAtOnce) {
      const rows = Array.from({ length: Math.min(rowsAtOnce, ends - first) }, (_, i) => {
        const rank = rankOf(first + i)
        return diff.get(diff.descending[rank - 1]!)
      })
      await parquet.write({
        columnData: columns.map(([name, , value]) => ({
          name,
          data: rows.map((one) => {
            const found = value(one)
            return Number.isNaN(found) ? null : found
          }),
        })),
        rowGroupSize: rowsAtOnce,
      })
      await put()
      await new Promise(setImmediate) // large tables must not hold up the event loop
    }
    await parquet.finish()
    await put()
    return ends
  })
}
