import { expect } from 'vitest'

/** Every value within `tolerance` × max(1, largest expected magnitude); a failure names the worst place. */
export function closeTo(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(found.length).toBe(expected.length)
  if (expected.length === 0) return
  let scale = 1
  for (let i = 0; i < expected.length; i++) scale = Math.max(scale, Math.abs(expected[i] as number))
  let worst = 0
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs((found[i] as number) - (expected[i] as number))
    const before = Math.abs((found[worst] as number) - (expected[worst] as number))
    if (!(error <= before)) worst = i
  }
  const error = Math.abs((found[worst] as number) - (expected[worst] as number))
  expect(error, `value ${worst}: ${found[worst]}, expected ${expected[worst]}`).toBeLessThanOrEqual(
    tolerance * scale,
  )
}
