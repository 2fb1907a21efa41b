import type { Estimate } from '../evaluation/bootstrap.js'

/** A model organism trained on a share of bad data (or up to a step), and what shows in it. */
export interface WarningPoint {
  /** Share of bad data, or training step. */
  at: number
  /** Change of the latent against the start. */
  change: Estimate
  misaligned: Estimate
}

export interface EarlyWarning {
  /** The least `at` from which on the latent's whole interval lies above `changeLimit`; null if never. */
  latentFrom: number | null
  /** The least `at` from which on the whole interval of misalignment lies above `misalignedLimit`; null if never. */
  behaviourFrom: number | null
  /** Whether the latent shows first. */
  early: boolean
}

/** Whether a latent rises at shares of bad data too small for the behaviour to show. */
export function earlyWarning(
  points: readonly WarningPoint[],
  options: { changeLimit?: number; misalignedLimit?: number } = {},
): EarlyWarning {
  const { changeLimit = 0, misalignedLimit = 0.05 } = options
  const falling = points.toSorted((a, b) => b.at - a.at)
  const from = (lowOf: (point: WarningPoint) => number | null, limit: number): number | null => {
    let least: number | null = null
    for (const point of falling) {
      const low = lowOf(point)
      if (low === null || low <= limit) break
      least = point.at
    }
    return least
  }
  const latentFrom = from(({ change }) => change.low, changeLimit)
  const behaviourFrom = from(({ misaligned }) => misaligned.low, misalignedLimit)
  const early = latentFrom !== null && (behaviourFrom === null || latentFrom < behaviourFrom)
  return { latentFrom, behaviourFrom, early }
}
