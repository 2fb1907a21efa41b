import { describe, expect, it } from 'vitest'
import type { NativeLanguageModel } from '../../lib/models/native-language-model.js'
import { randomDirection } from '../../lib/steering/direction.js'
import { SteeringPlan, type SteeredTokens } from '../../lib/steering/plan.js'
import { residualScale, type ResidualScale } from '../../lib/steering/residual-scale.js'
import { pretrained, prompts } from '../realignment/two-voices.js'

const hook = { point: 'resid_post', layer: 0 } as const
const direction = randomDirection(32, 9)

interface Bench {
  model: NativeLanguageModel
  sequences: Int32Array[]
  site: ResidualScale
}

async function bench(): Promise<Bench> {
  const model = await pretrained()
  const sequences = prompts('kind').map((prompt) => model.encodePrompt(prompt))
  return { model, sequences, site: await residualScale(model, sequences, { hook }) }
}

/** The residual stream as the next layer gets it, steered and not, and the positions. */
async function streams(
  { model, sequences }: Bench,
  steering: SteeringPlan,
): Promise<{ before: Float32Array; after: Float32Array; position: Uint32Array }> {
  const next = { point: 'resid_pre', layer: 1 } as const
  const plain = await model.capture(sequences, { hook: next })
  const steered = await model.capture(sequences, { hook: next, steering })
  return { before: plain.values, after: steered.values, position: plain.position }
}

const row = (values: Float32Array, i: number): Float32Array => values.subarray(i * 32, (i + 1) * 32)

const along = (values: Float32Array, centre: Float32Array): number =>
  values.reduce((sum, x, j) => sum + (x - centre[j]!) * direction.vector[j]!, 0)

describe('a plan on a real model', () => {
  it('adds strength × scale × the unit vector, to the tokens it says', async () => {
    const on = await bench()
    for (const tokens of ['all', 'after-first'] as const satisfies SteeredTokens[]) {
      const plan = SteeringPlan.add(direction, on.site, { strength: -0.7, tokens })
      const { before, after, position } = await streams(on, plan)
      for (let i = 0; i < position.length; i++) {
        const length = tokens === 'after-first' && position[i] === 0 ? 0 : -0.7 * on.site.scale
        for (let j = 0; j < 32; j++)
          expect(row(after, i)[j]).toBeCloseTo(row(before, i)[j]! + length * direction.vector[j]!, 4)
      }
    }
  })

  it('ablates, clamps and projects about the centre', async () => {
    const on = await bench()
    const { centre, scale } = on.site
    const options = { tokens: 'all' } as const
    const zero = new Float32Array(32)
    for (const site of [on.site, { hook, scale }]) {
      const c = 'centre' in site ? centre : zero
      const ablated = await streams(on, SteeringPlan.ablate(direction, site, options))
      const clamped = await streams(on, SteeringPlan.clamp(direction, site, { ...options, strength: 1.5 }))
      const projected = await streams(on, SteeringPlan.project(direction, site, options))
      for (let i = 0; i < ablated.position.length; i++) {
        const x = row(ablated.before, i)
        const a = along(x, c)
        for (let j = 0; j < 32; j++) {
          const v = direction.vector[j]!
          expect(row(ablated.after, i)[j]).toBeCloseTo(x[j]! - a * v, 4)
          expect(row(clamped.after, i)[j]).toBeCloseTo(x[j]! + (1.5 * scale - a) * v, 4)
          expect(row(projected.after, i)[j]).toBeCloseTo(c[j]! + a * v, 4)
        }
      }
    }
  })

  it('takes its steps in order', async () => {
    const on = await bench()
    const { centre } = on.site
    const add = SteeringPlan.add(direction, on.site, { strength: 1, tokens: 'all' })
    const ablate = SteeringPlan.ablate(direction, on.site, { tokens: 'all' })
    const removed = await streams(on, SteeringPlan.combine(add, ablate))
    const kept = await streams(on, SteeringPlan.combine(ablate, add))
    for (let i = 0; i < removed.position.length; i++) {
      expect(along(row(removed.after, i), centre)).toBeCloseTo(0, 3)
      expect(along(row(kept.after, i), centre)).toBeCloseTo(on.site.scale, 3)
    }
  })
})
