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
}

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
  /** Two-sided, Student's t on delta / standardError with (prompts − 1) degrees of freedom. */
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
  readonly #means: { before: Float64Array; after: Float64Array }
  readonly #shares: { before: Float64Array; after: Float64Array }
  #ranks: Uint32Array | undefined

  /** @internal Use {@link diffLatents}. */
  constructor(
    found: NativeLatentDiff,
    means: { before: Float64Array; after: Float64Array },
    shares: { before: Float64Array; after: Float64Array },
  ) {
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
    this.#means = means
    this.#shares = shares
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
      meanBefore: this.#means.before[index]!,
      meanAfter: this.#means.after[index]!,
      shareBefore: this.#shares.before[index]!,
      shareAfter: this.#shares.after[index]!,
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
  }
  const found = await runNative(options, 'latents', (job) =>
    native.diffLatents(
      before.native,
      models.map((model) => model.native),
      settings,
      job,
    ),
  )
  return new LatentDiff(
    found,
    { before: before.mean(), after: average(models.map((model) => model.mean())) },
    { before: shareOf(before), after: average(models.map(shareOf)) },
  )
}

/** Share of rows in which each latent was active. */
function shareOf(stats: LatentStats): Float64Array {
  const { rows } = stats
  return stats.activeCount.map((count) => count / rows)
}

function average(arrays: readonly Float64Array[]): Float64Array {
  const mean = new Float64Array(arrays[0]?.length ?? 0)
  for (const values of arrays) for (let i = 0; i < mean.length; i++) mean[i]! += values[i]! / arrays.length
  return mean
}
