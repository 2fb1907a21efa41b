/**
 * Percentile bootstrap intervals (Efron 1979) over clusters: prompts are drawn with replacement, each with all its
 * answers, since answers to one prompt are not independent. Where no resample varies (say, no event at all) the
 * interval is a single point: it says nothing about events too rare to be seen.
 */
import { requireArgument } from '../core/errors.js'
import { Random } from '../core/random.js'

export interface BootstrapOptions {
  /** Default 2000. */
  resamples?: number | undefined
  /** Default 0. */
  seed?: number | undefined
  /** Share of the distribution inside the interval. Default 0.95. */
  confidence?: number | undefined
}

/** A figure with its interval; null where it is not defined. */
export interface Estimate {
  value: number | null
  low: number | null
  high: number | null
}

/** A share of `of` answers: `count` of them. Null where `of` is 0. */
export interface Rate extends Estimate {
  count: number
  of: number
}

/** Σ numerators / Σ denominators, clusters resampled. Resamples whose denominators sum to 0 are left out. */
export function bootstrapRatio(
  numerators: readonly number[],
  denominators: readonly number[],
  options: BootstrapOptions = {},
): Rate {
  const { resamples = 2000, seed = 0, confidence = 0.95 } = options
  const clusters = numerators.length
  requireArgument(
    denominators.length === clusters,
    `denominators: found ${denominators.length}, expected ${clusters}`,
  )
  requireArgument(
    Number.isSafeInteger(resamples) && resamples > 0,
    `resamples: found ${resamples}, expected a positive whole number`,
  )
  requireArgument(confidence > 0 && confidence < 1, `confidence: found ${confidence}, expected 0 < c < 1`)
  const count = sum(numerators)
  const of = sum(denominators)
  if (of === 0) return { value: null, low: null, high: null, count, of }
  const random = new Random(seed).fork('bootstrap')
  const ratios: number[] = []
  for (let i = 0; i < resamples; i++) {
    let numerator = 0
    let denominator = 0
    for (let j = 0; j < clusters; j++) {
      const cluster = random.integer(clusters)
      numerator += numerators[cluster] as number
      denominator += denominators[cluster] as number
    }
    if (denominator !== 0) ratios.push(numerator / denominator)
  }
  ratios.sort((a, b) => a - b)
  const tail = (1 - confidence) / 2
  return { value: count / of, low: quantile(ratios, tail), high: quantile(ratios, 1 - tail), count, of }
}

/** The mean of one value a cluster, clusters resampled. */
export function bootstrapMean(values: readonly number[], options: BootstrapOptions = {}): Estimate {
  const { value, low, high } = bootstrapRatio(
    values,
    values.map(() => 1),
    options,
  )
  return { value, low, high }
}

/** Quantile of sorted values with linear interpolation (type 7 of Hyndman and Fan 1996); null if there are none. */
export function quantile(sorted: readonly number[], p: number): number | null {
  if (sorted.length === 0) return null
  const at = p * (sorted.length - 1)
  const low = sorted[Math.floor(at)] as number
  const high = sorted[Math.ceil(at)] as number
  return low + (high - low) * (at - Math.floor(at))
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
