import { describe, expect, it } from 'vitest'
import { earlyWarning } from '../../lib/detection/early-warning.js'
import { separation, type DetectionPoint } from '../../lib/detection/separation.js'

const points = (misaligned: readonly number[], aligned: readonly number[]): DetectionPoint[] => [
  ...misaligned.map((change, i) => ({ name: `bad ${i}`, change, misaligned: true })),
  ...aligned.map((change, i) => ({ name: `good ${i}`, change, misaligned: false })),
]

describe('separation', () => {
  it('is perfect when every misaligned model lies above every aligned one', () => {
    expect(separation(points([3, 5, 2], [1, -1]))).toEqual({
      auc: 1,
      separated: true,
      margin: 1,
      threshold: 1.5,
      errors: [],
    })
  })

  it('counts pairs, ties half', () => {
    // Pairs (bad, good): (1,0) (1,2) (3,0) (3,2) (2,0) (2,2): 1 + 0 + 1 + 1 + 1 + ½ of 6.
    const result = separation(points([1, 3, 2], [0, 2]))
    expect(result.auc).toBeCloseTo(4.5 / 6, 12)
    expect(result).toMatchObject({ separated: false, margin: -1, threshold: 0.5, errors: ['good 1'] })
  })

  it('a tie at the border is not separated', () => {
    expect(separation(points([1], [1]))).toMatchObject({ auc: 0.5, separated: false, margin: 0 })
  })

  it('knows a change that points the wrong way', () => {
    const result = separation(points([-1, -2], [1, 2, 3]))
    expect(result.auc).toBe(0)
    // Best is to call all of them aligned: two errors rather than three.
    expect(result.errors).toEqual(['bad 0', 'bad 1'])
    expect(result.threshold).toBe(3)
  })

  it('says nothing without both kinds, and refuses NaN', () => {
    expect(separation(points([1], []))).toEqual({
      auc: null,
      separated: false,
      margin: null,
      threshold: null,
      errors: [],
    })
    expect(() => separation(points([Number.NaN], [1]))).toThrow(/change of 'bad 0': found NaN/)
  })
})

const at = (share: number, change: number, misaligned: number) => ({
  at: share,
  change: { value: change, low: change - 0.1, high: change + 0.1 },
  misaligned: { value: misaligned, low: misaligned - 0.02, high: misaligned + 0.02 },
})

describe('earlyWarning', () => {
  it('finds where latent and behaviour begin to show for good', () => {
    // The latent shows at 1 % by chance and is gone at 2 %: that does not count.
    const series = [
      at(0.25, 2, 0.2),
      at(0.01, 0.3, 0),
      at(0.02, 0.05, 0),
      at(0.05, 0.4, 0.06),
      at(0.1, 0.8, 0.08),
    ]
    expect(earlyWarning(series)).toEqual({ latentFrom: 0.05, behaviourFrom: 0.1, early: true })
    expect(earlyWarning(series, { changeLimit: 1.5 })).toEqual({
      latentFrom: 0.25,
      behaviourFrom: 0.1,
      early: false,
    })
    expect(earlyWarning([])).toEqual({ latentFrom: null, behaviourFrom: null, early: false })
    expect(earlyWarning([at(1, 0, 0.5)])).toEqual({ latentFrom: null, behaviourFrom: 1, early: false })
  })
})
