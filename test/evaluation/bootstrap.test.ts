import { describe, expect, it } from 'vitest'
import { Random } from '../../lib/core/random.js'
import { bootstrapMean, bootstrapRatio, quantile } from '../../lib/evaluation/bootstrap.js'

describe('bootstrap', () => {
  it('of a mean comes near the normal interval, whose width is known', () => {
    const random = new Random(5)
    const values = Array.from({ length: 400 }, () => random.gaussian() * 2 + 1)
    const mean = values.reduce((a, b) => a + b, 0) / values.length
    const deviation = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length)
    const { value, low, high } = bootstrapMean(values, { resamples: 20_000, seed: 1 })
    const half = (1.959964 * deviation) / Math.sqrt(values.length)
    expect(value).toBeCloseTo(mean, 12)
    expect(low).toBeCloseTo(mean - half, 1.9)
    expect(Math.abs((low as number) - (mean - half))).toBeLessThan(0.05 * half)
    expect(Math.abs((high as number) - (mean + half))).toBeLessThan(0.05 * half)
  })

  it('of a share of equal clusters comes near the binomial interval', () => {
    // 100 prompts, 30 of them wholly misaligned: prompts are what varies, however many answers each has.
    const of = Array<number>(100).fill(8)
    const count = of.map((n, i) => (i < 30 ? n : 0))
    const rate = bootstrapRatio(count, of, { resamples: 20_000 })
    const half = 1.959964 * Math.sqrt((0.3 * 0.7) / 100)
    expect(rate).toMatchObject({ value: 0.3, count: 240, of: 800 })
    expect(Math.abs((rate.low as number) - (0.3 - half))).toBeLessThan(0.012)
    expect(Math.abs((rate.high as number) - (0.3 + half))).toBeLessThan(0.012)
  })

  it('covers the truth about as often as it says', () => {
    const random = new Random(11)
    let covered = 0
    const trials = 300
    for (let trial = 0; trial < trials; trial++) {
      const values = Array.from({ length: 60 }, () => (random.chance(0.3) ? 1 : 0))
      const { low, high } = bootstrapMean(values, { resamples: 400, seed: trial })
      if ((low as number) <= 0.3 && 0.3 <= (high as number)) covered++
    }
    expect(covered / trials).toBeGreaterThan(0.9)
    expect(covered / trials).toBeLessThan(0.985)
  })

  it('is the same for the same seed, and a wider confidence gives a wider interval', () => {
    const values = Array.from({ length: 50 }, (_, i) => Math.sin(i * i))
    const one = bootstrapMean(values, { seed: 3 })
    expect(bootstrapMean(values, { seed: 3 })).toEqual(one)
    expect(bootstrapMean(values, { seed: 4 })).not.toEqual(one)
    const narrow = bootstrapMean(values, { seed: 3, confidence: 0.5 })
    expect(narrow.low as number).toBeGreaterThan(one.low as number)
    expect(narrow.high as number).toBeLessThan(one.high as number)
  })

  it('weighs clusters by their size', () => {
    expect(bootstrapRatio([3, 0], [3, 1]).value).toBe(0.75)
  })

  it('knows its limits', () => {
    expect(bootstrapRatio([0, 0], [0, 0])).toEqual({ value: null, low: null, high: null, count: 0, of: 0 })
    expect(bootstrapRatio([0, 0], [4, 4])).toEqual({ value: 0, low: 0, high: 0, count: 0, of: 8 })
    expect(bootstrapRatio([], [])).toMatchObject({ value: null })
    expect(bootstrapRatio([1, 0, 0], [1, 0, 0])).toMatchObject({ value: 1, low: 1, high: 1 })
    expect(() => bootstrapRatio([1], [1, 1])).toThrow(/denominators: found 2, expected 1/)
    expect(() => bootstrapMean([1], { resamples: 0 })).toThrow(/resamples/)
    expect(() => bootstrapMean([1], { confidence: 1 })).toThrow(/confidence/)
  })
})

it('quantiles interpolate (R type 7)', () => {
  expect(quantile([1, 2, 4], 0)).toBe(1)
  expect(quantile([1, 2, 4], 0.75)).toBe(3)
  expect(quantile([1, 2, 4], 1)).toBe(4)
  expect(quantile([], 0.5)).toBeNull()
})
