import { describe, expect, it } from 'vitest'
import { canonicalJson, deriveSeed } from '../../lib/study/canonical.js'
import { formatNumber, formatRate, formatSeconds, formatShare } from '../../lib/study/format.js'
import { studySchema } from '../../lib/study/schema.js'
import { rate, study } from './figures.js'

describe('studySchema', () => {
  it('reads back what it wrote', () => {
    expect(studySchema.parse(JSON.parse(canonicalJson(study())))).toEqual(study())
  })

  it.each([
    ['another format', { format: 'something' }],
    ['a newer version', { version: 2 }],
    ['a negative seed', { seed: -1 }],
    ['no figures', { figures: undefined }],
    [
      'a share above 1',
      { claims: [], figures: { ...study().figures, sae: { ...study().figures.sae, dead: 1.1 } } },
    ],
  ])('refuses %s', (_, wrong) => {
    expect(studySchema.safeParse({ ...study(), ...wrong }).success).toBe(false)
  })
})

describe('canonicalJson', () => {
  it('sorts keys at every depth and drops undefined', () => {
    expect(canonicalJson({ b: [{ d: 1, c: 'x' }], a: null, z: undefined })).toBe(
      '{"a":null,"b":[{"c":"x","d":1}]}',
    )
  })
  it.each([[Number.NaN], [Number.POSITIVE_INFINITY], [new Float32Array(1)], [() => 1], [new Map()]])(
    'refuses %s',
    (value) => {
      expect(() => canonicalJson({ value })).toThrow(/\$\.value/)
    },
  )
  it('derives seeds that differ by label and by seed, and stay whole numbers', () => {
    const seeds = [deriveSeed(0, 'a'), deriveSeed(0, 'b'), deriveSeed(1, 'a')]
    expect(new Set(seeds).size).toBe(3)
    expect(seeds.every(Number.isSafeInteger)).toBe(true)
    expect(deriveSeed(0, 'a')).toBe(seeds[0])
  })
})

describe('figures in words', () => {
  it('rounds as people read', () => {
    expect([0, 0.004, 0.0994, 0.0996, 0.5, 1, null].map(formatShare)).toEqual([
      '0 %',
      '0.4 %',
      '9.9 %',
      '10 %',
      '50 %',
      '100 %',
      'n/a',
    ])
    expect(formatRate(rate(0.5))).toBe('50 % [48–52]')
    expect([1.23456, -0.5, 0, null].map((value) => formatNumber(value, true))).toEqual([
      '+1.23',
      '−0.5',
      '0',
      'n/a',
    ])
    expect([4.2, 65, 3599.6].map(formatSeconds)).toEqual(['4 s', '1 min 05 s', '60 min 00 s'])
  })
})
