import { requireArgument } from '../core/errors.js'
import { runNative, type TaskOptions } from '../core/task.js'
import { native, type NativeLatentDiff } from '../native.js'
import type { LatentStats } from './latent-stats.js'

export interface DiffOptions extends TaskOptions {
  /** Resamples of the prompts for the interval; 0 for none. Default 2000. */
  bootstrap?: number
  /** Default 0. */
  seed?: number
  /** Of the interval. Default 0.95. */
  confidence?: number
  /**
   * Of the p-values: 'paired' is Student's t on the change of each prompt, 'welch' Welch's t, prompts of different models
   * taken as independent, 'permutation' exchanges before and after within prompts at random. Default 'paired'.
   */
  test?: DiffTest
  /** Default 10 000; the least p-value is 1 / (permutations + 1). */
  permutations?: number
}

export type DiffTest = 'paired' | 'welch' | 'permutation'

/** What changed in one latent. NaN where statistics had no groups (interval, p, q) or the latent was never active. */
export interface LatentChange {
  index: number
  /** 1 is the largest in the order asked for: of increase from `top`, of decrease from `bottom`. */
  rank: number
  /** Mean activation after − before, over all rows. */
  delta: number
  /** delta in standard deviations over rows (pooled). */
  effectSize: number
  /** Of delta, clustered by prompt. */
  standardError: number
  /** Percentile bootstrap over prompts. */
  low: number
  high: number
  /** Two-sided, by the test asked for. */
  pValue: number
  /** Benjamini–Hochberg over the alive latents. */
  qValue: number
  /** Mean activation; `after` averaged over the models after. */
  meanBefore: number
  meanAfter: number
  /** Share of rows in which it was active. */
  shareBefore: number
  shareAfter: number
}

/** The change of every latent between a model before and one or several after, ranked at both ends. */
export class LatentDiff {
  readonly latents: number
  /** Prompts that intervals are over; 0 without groups. */
  readonly groups: number
  /** Latents active in any of the models. */
  readonly alive: number
  /** [latents] each. */
  readonly delta: Float64Array
  readonly effectSize: Float64Array
  readonly standardError: Float64Array
  readonly low: Float64Array
  readonly high: Float64Array
  readonly pValue: Float64Array
  readonly qValue: Float64Array
  /** All latents by falling delta, and by rising delta; equal ones by lower index. */
  readonly descending: Uint32Array
  readonly ascending: Uint32Array
  /** Mean activation over all rows; `after` averaged over the models after. */
  readonly meanBefore: Float64Array
  readonly meanAfter: Float64Array
  /** Share of rows in which each was active. */
  readonly shareBefore: Float64Array
  readonly shareAfter: Float64Array
  #ranks: Uint32Array | undefined

  /** @internal Use {@link diffLatents}. */
  constructor(found: NativeLatentDiff) {
    this.latents = found.delta.length
    this.groups = found.groups
    this.alive = found.alive
    this.delta = found.delta
    this.effectSize = found.effectSize
    this.standardError = found.standardError
    this.low = found.low
    this.high = found.high
    this.pValue = found.pValue
    this.qValue = found.qValue
    this.descending = found.descending
    this.ascending = found.ascending
    this.meanBefore = found.meanBefore
    this.meanAfter = found.meanAfter
    this.shareBefore = found.shareBefore
    this.shareAfter = found.shareAfter
  }

  /** The `count` latents of largest increase. */
  top(count: number): LatentChange[] {
    return Array.from(this.descending.subarray(0, count), (index, i) => this.#change(index, i + 1))
  }

  /** The `count` latents of largest decrease. */
  bottom(count: number): LatentChange[] {
    return Array.from(this.ascending.subarray(0, count), (index, i) => this.#change(index, i + 1))
  }

  /** One latent, its rank by increase. */
  get(index: number): LatentChange {
    return this.#change(index, this.rankOf(index))
  }

  /** Rank by increase: 1 is the largest. */
  rankOf(index: number): number {
    requireArgument(
      Number.isInteger(index) && index >= 0 && index < this.latents,
      `latent ${index}: the SAE has ${this.latents}`,
    )
    if (this.#ranks === undefined) {
      this.#ranks = new Uint32Array(this.latents)
      for (const [place, latent] of this.descending.entries()) this.#ranks[latent] = place + 1
    }
    return this.#ranks[index]!
  }

  #change(index: number, rank: number): LatentChange {
    return {
      index,
      rank,
      delta: this.delta[index]!,
      effectSize: this.effectSize[index]!,
      standardError: this.standardError[index]!,
      low: this.low[index]!,
      high: this.high[index]!,
      pValue: this.pValue[index]!,
      qValue: this.qValue[index]!,
      meanBefore: this.meanBefore[index]!,
      meanAfter: this.meanAfter[index]!,
      shareBefore: this.shareBefore[index]!,
      shareAfter: this.shareAfter[index]!,
    }
  }
}

/**
 * The change of mean activation per latent, `after` − `before`; several models after are averaged, so that latents
 * can be numbered alike for all of them. With statistics per group, groups of equal number are the same prompt in every
 * model: intervals and tests are over prompts, paired. See native/kernels/latent_stats/difference.h for the formulas.
 * Errors: `ERR_INVALID_ARGUMENT` (different latents, no rows).
 */
export async function diffLatents(
  before: LatentStats,
  after: LatentStats | readonly LatentStats[],
  options: DiffOptions = {},
): Promise<LatentDiff> {
  const models = Array.isArray(after) ? (after as readonly LatentStats[]) : [after as LatentStats]
  const settings = {
    resamples: options.bootstrap ?? 2000,
    confidence: options.confidence ?? 0.95,
    seed: options.seed ?? 0,
    test: options.test ?? 'paired',
    permutations: options.permutations ?? 10_000,
  }
  const found = await runNative(options, 'latents', (job) =>
    native.diffLatents(
      before.native,
      models.map((model) => model.native),
      settings,
      job,
    ),
  )
  return new LatentDiff(found)
}

/** Change of mean activation of chosen latents in each model after: one array a model, in the order of `latents`. */
export function latentSignatures(
  before: LatentStats,
  after: readonly LatentStats[],
  latents: readonly number[],
): Float64Array[] {
  const base = before.mean()
  for (const latent of latents)
    requireArgument(
      Number.isInteger(latent) && latent >= 0 && latent < before.latents,
      `latent ${latent}: the SAE has ${before.latents}`,
    )
  return after.map((stats) => {
    requireArgument(
      stats.latents === before.latents,
      `statistics of ${stats.latents} and of ${before.latents} latents cannot be compared`,
    )
    const mean = stats.mean()
    return Float64Array.from(latents, (latent) => mean[latent]! - base[latent]!)
  })
}
