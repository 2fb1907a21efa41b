import { requireArgument } from '../core/errors.js'

/** One model, with the change of a latent against the start. */
export interface DetectionPoint {
  name: string
  change: number
  misaligned: boolean
}

/** How well a latent's change tells misaligned models from aligned ones. */
export interface Separation {
  /** Chance that a misaligned model has the larger change, ties counting half; null without both kinds. */
  auc: number | null
  /** Whether every misaligned model lies above every aligned one. False without both kinds. */
  separated: boolean
  /** Lowest change of a misaligned model − highest of an aligned one: positive if separated; null without both. */
  margin: number | null
  /** The threshold with fewest errors (a model above it is called misaligned), in the middle of the widest gap among such. */
  threshold: number | null
  /** Models on the wrong side of the threshold. */
  errors: string[]
}

/** Separation of misaligned from aligned models by one number. Errors: `ERR_INVALID_ARGUMENT` for NaN or Inf. */
export function separation(points: readonly DetectionPoint[]): Separation {
  for (const { name, change } of points)
    requireArgument(Number.isFinite(change), `change of '${name}': found ${change}, expected a finite number`)
  const misaligned = points.filter((point) => point.misaligned).map(({ change }) => change)
  const aligned = points.filter((point) => !point.misaligned).map(({ change }) => change)
  if (misaligned.length === 0 || aligned.length === 0)
    return { auc: null, separated: false, margin: null, threshold: null, errors: [] }
  let wins = 0
  for (const high of misaligned) for (const low of aligned) wins += high > low ? 1 : high === low ? 0.5 : 0
  const margin = Math.min(...misaligned) - Math.max(...aligned)
  const threshold = bestThreshold(points)
  const errors = points
    .filter((point) => point.change > threshold !== point.misaligned)
    .map(({ name }) => name)
  return {
    auc: wins / (misaligned.length * aligned.length),
    separated: margin > 0,
    margin,
    threshold,
    errors,
  }
}

/** Between two neighbouring changes; fewest errors first, then the widest gap, then the lower one. */
function bestThreshold(points: readonly DetectionPoint[]): number {
  const sorted = points.toSorted((a, b) => a.change - b.change)
  const first = sorted[0] as DetectionPoint
  const last = sorted.at(-1) as DetectionPoint
  // Candidates: below all, above all, and the middle of every gap.
  let errors = sorted.filter((point) => !point.misaligned).length // all called misaligned
  let best = { errors, gap: 0, threshold: first.change - 1 }
  for (const [i, point] of sorted.entries()) {
    errors += point.misaligned ? 1 : -1 // it is now called aligned
    const next = sorted[i + 1]
    if (next !== undefined && next.change === point.change) continue
    const gap = next === undefined ? 0 : next.change - point.change
    const threshold = next === undefined ? last.change : point.change + gap / 2
    if (errors < best.errors || (errors === best.errors && gap > best.gap)) best = { errors, gap, threshold }
  }
  return best.threshold
}
