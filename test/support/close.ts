/**
 * The largest |found − expected|, relative to the largest expected magnitude where that is above 1. Infinity where
 * lengths differ or a value is NaN.
 */
export function distance(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (found.length !== expected.length) return Number.POSITIVE_INFINITY
  let scale = 1
  let worst = 0
  for (let i = 0; i < expected.length; i++) {
    scale = Math.max(scale, Math.abs(expected[i] as number))
    const error = Math.abs((found[i] as number) - (expected[i] as number))
    if (!(error <= worst)) worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error
  }
  return worst / scale
}
