import { describe, expect, it } from 'vitest'
import { combineDirections, latentDirection, negate, randomDirection } from '../../lib/steering/direction.js'
import { SteeringPlan } from '../../lib/steering/plan.js'

const hook = { point: 'resid_mid', layer: 1 } as const
const site = { hook, scale: 2, centre: Float32Array.of(1, 1) }
const direction = { vector: Float32Array.of(3, 4), label: 'latent 7' }

const add = (change: object, vector = direction.vector): unknown =>
  SteeringPlan.add({ vector, label: 'x' }, { ...site, ...change }, { strength: 1, ...change })

describe('plans', () => {
  it('have unit vectors, the unit of strength and a label', () => {
    const step = {
      hook,
      vector: Float32Array.of(3 / 5, 4 / 5),
      scale: 2,
      tokens: 'after-first',
      label: 'latent 7',
    }
    expect(SteeringPlan.add(direction, site, { strength: -0.4 }).steps).toEqual([
      { ...step, operation: 'add', strength: -0.4 },
    ])
    expect(SteeringPlan.ablate(direction, site, { tokens: 'answer', label: 'x' }).steps).toEqual([
      { ...step, operation: 'ablate', strength: 0, centre: site.centre, tokens: 'answer', label: 'x' },
    ])
    expect(SteeringPlan.clamp(direction, { hook, scale: 2 }, { strength: 1 }).steps).toEqual([
      { ...step, operation: 'clamp', strength: 1 },
    ])
    const both = SteeringPlan.combine(
      SteeringPlan.none,
      SteeringPlan.project(direction, site),
      SteeringPlan.add(direction, site, { strength: 1 }),
    )
    expect(both.steps.map(({ operation }) => operation)).toEqual(['project', 'add'])
  })

  it('refuse what cannot steer', () => {
    expect(() => add({}, Float32Array.of(0, 0))).toThrow(/x: a vector of length 0/)
    expect(() => add({}, Float32Array.of(Number.NaN, 0))).toThrow(/x: a vector of length NaN/)
    expect(() => add({ strength: Number.POSITIVE_INFINITY })).toThrow(/strength Infinity/)
    expect(() => add({ scale: 0 })).toThrow(/scale 0/)
    expect(() => SteeringPlan.ablate({ ...direction, vector: Float32Array.of(1) }, site)).toThrow(
      /centre of 2/,
    )
  })
})

describe('directions', () => {
  it('of latents are decoder vectors', () => {
    const sae = { decoderVector: (latent: number) => Float32Array.of(latent, 0) }
    expect(latentDirection(sae, 7)).toEqual({ vector: Float32Array.of(7, 0), label: 'latent 7' })
    expect(negate(direction).vector).toEqual(Float32Array.of(-3, -4))
  })

  it('combine by weight, each at unit length', () => {
    const other = { vector: Float32Array.of(0, 10), label: 'other' }
    const { vector } = combineDirections(
      [
        { direction, weight: 1 },
        { direction: other, weight: -0.8 },
      ],
      'both',
    )
    expect(vector[0]).toBeCloseTo(1, 6)
    expect(vector[1]).toBeCloseTo(0, 6)
  })

  it('at random are uniform on the sphere, seeded', () => {
    const d = 64
    const mean = new Float64Array(d)
    let dot = 0
    const count = 500
    for (let seed = 0; seed < count; seed++) {
      const { vector } = randomDirection(d, seed)
      expect(Math.hypot(...vector)).toBeCloseTo(1, 6)
      for (let i = 0; i < d; i++) mean[i]! += vector[i]! / count
      const next = randomDirection(d, seed + 1).vector
      dot += vector.reduce((total, value, i) => total + value * next[i]!, 0) / count
    }
    // Expected: |mean| about 1/sqrt(count), neighbouring seeds uncorrelated.
    expect(Math.hypot(...mean)).toBeLessThan(2 / Math.sqrt(count))
    expect(Math.abs(dot)).toBeLessThan(5 / Math.sqrt(count * d))
    expect(randomDirection(d, 3)).toEqual(randomDirection(d, 3))
  })
})
