/** What changed as Parquet tables: one row a latent, null where a figure is not defined. */
import { writeParquet, type Column, type ParquetOptions } from '../io/parquet.js'
import type { DecoderNormRanking } from './crosscoder.js'
import type { LatentChange, LatentDiff } from './diff.js'

const columns: readonly Column<LatentChange>[] = [
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
]

export interface DiffTableOptions extends ParquetOptions {
  /** So many latents of largest increase and as many of largest decrease. Default: all latents. */
  top?: number | undefined
}

/**
 * Writes the table by rising rank (1 is the largest increase), beside and renamed: `latent`, `rank`, `mean_base`,
 * `mean_tuned`, `delta`, `effect_size`, `active_base`, `active_tuned` (shares of rows), `ci_low`, `ci_high`, `p_value`,
 * `q_value`; and of a crosscoder `relative_decoder_norm`, where `decoderNorms` gives it. Gives the number of rows.
 */
export async function writeDiffTable(
  path: string,
  diff: LatentDiff,
  options: DiffTableOptions & { decoderNorms?: DecoderNormRanking | undefined } = {},
): Promise<number> {
  const { decoderNorms, ...rest } = options
  const all: readonly Column<LatentChange>[] =
    decoderNorms === undefined
      ? columns
      : [...columns, ['relative_decoder_norm', 'f64?', (one) => decoderNorms.relative[one.index]!]]
  return writeEnds(path, all, diff.descending, (index) => diff.get(index), rest)
}

/**
 * Writes the latents of a crosscoder by falling relative norm of their decoder vectors, beside and renamed: `latent`,
 * `rank`, `relative_decoder_norm`. Gives the number of rows.
 */
export async function writeDecoderNormTable(
  path: string,
  norms: DecoderNormRanking,
  options: DiffTableOptions = {},
): Promise<number> {
  const table: readonly Column<{ index: number; rank: number }>[] = [
    ['latent', 'u32', (one) => one.index],
    ['rank', 'u32', (one) => one.rank],
    ['relative_decoder_norm', 'f64?', (one) => norms.relative[one.index]!],
  ]
  return writeEnds(path, table, norms.descending, (index, rank) => ({ index, rank }), options)
}

/** Both ends of a ranking of latents, by rising rank. */
async function writeEnds<Row>(
  path: string,
  table: readonly Column<Row>[],
  ranked: Uint32Array,
  rowOf: (index: number, rank: number) => Row,
  options: DiffTableOptions,
): Promise<number> {
  const latents = ranked.length
  const top = Math.min(options.top ?? latents, latents)
  // Ranks 1 … top and latents − top + 1 … latents, each once.
  const ends = Math.min(latents, 2 * top)
  await writeParquet(
    path,
    table,
    ends,
    (place) => {
      const rank = place < top ? place + 1 : latents - ends + place + 1
      return rowOf(ranked[rank - 1]!, rank)
    },
    { ...options, metadata: { latents: String(latents), ...options.metadata } },
  )
  return ends
}
