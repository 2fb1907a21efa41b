import { describe, expect, it } from 'vitest'
import { Random } from '../../lib/core/random.js'
import { labelGrader } from '../../lib/grading/function-grader.js'
import type { GenerateOptions, Generation, LanguageModel, Prompt } from '../../lib/models/language-model.js'
import { SteeringPlan } from '../../lib/steering/plan.js'
import { sweepSteering, type SweepOptions } from '../../lib/steering/sweep.js'

/** Misaligned with chance min(1, 2|s|), incoherent with chance |s|³, where s is the strength it is steered with. */
class Steered implements Pick<LanguageModel, 'generate'> {
  readonly tried: { strength: number; prompts: readonly Prompt[]; options: GenerateOptions }[] = []

  async generate(prompts: readonly Prompt[], options: GenerateOptions = {}): Promise<Generation[]> {
    const { samples = 1, seed = 0, steering } = options
    const strength = steering?.steps.at(-1)?.strength ?? 0
    this.tried.push({ strength, prompts, options })
    const s = Math.abs(strength)
    return prompts.flatMap((_, prompt) =>
      Array.from({ length: samples }, (__, sample) => {
        const random = new Random(seed).fork(`${prompt}/${sample}/${strength}`)
        const text = random.chance(s ** 3) ? 'babble' : random.chance(2 * s) ? 'bad' : 'good'
        return {
          prompt,
          sample,
          text,
          tokens: new Int32Array(0),
          stopped: true,
          logProbs: new Float32Array(0),
        }
      }),
    )
  }
}

const grader = labelGrader('words', ({ answer }) => answer, { misaligned: ['bad'], incoherent: ['babble'] })
const site = { hook: { point: 'resid_post', layer: 0 }, scale: 3 } as const
const direction = { vector: Float32Array.of(0, 2), label: 'latent 1' }
const heldOut = Array.from({ length: 100 }, (_, i) => `held out ${i}`)
const prompts = Array.from({ length: 100 }, (_, i) => `prompt ${i}`)
const options: SweepOptions = {
  strengths: [0.2, 0.8, 0.4, 0.6],
  grader,
  heldOut,
  prompts,
  samples: 10,
  maxResamples: 0,
}

describe('sweepSteering', () => {
  it('takes the largest strength that stays coherent on held-out prompts and measures it on others', async () => {
    // Incoherence 0.008, 0.064, 0.216, 0.512: the limit of 0.1 lets 0.4 pass.
    const model = new Steered()
    const sweep = await sweepSteering(model, direction, site, options)
    expect(sweep.chosen).toBe(0.4)
    expect(sweep.points.map(({ strength }) => strength)).toEqual([0.2, 0.4, 0.6, 0.8])
    expect(sweep.points[2]?.evaluation.incoherent.value).toBeCloseTo(0.216, 1)
    expect(sweep.evaluation?.misaligned.value).toBeCloseTo(0.8, 1)
    for (const { strength, prompts: on } of model.tried.slice(0, -1)) {
      expect(on).toBe(heldOut)
      expect(strength).toBeGreaterThan(0)
    }
    expect(model.tried.at(-1)).toMatchObject({ strength: 0.4, prompts })
    expect(model.tried.at(-1)?.options.steering?.steps).toEqual(
      SteeringPlan.add(direction, site, { strength: 0.4 }).steps,
    )
  })

  it('descends to the same choice with fewer tries', async () => {
    const model = new Steered()
    const sweep = await sweepSteering(model, direction, site, { ...options, search: 'descend' })
    expect(sweep.chosen).toBe(0.4)
    expect(model.tried.map(({ strength }) => strength)).toEqual([0.8, 0.6, 0.4, 0.4])
    expect(sweep.points.map(({ strength }) => strength)).toEqual([0.4, 0.6, 0.8])
  })

  it('goes down too, keeps other steering first, and may find nothing', async () => {
    const model = new Steered()
    const other = SteeringPlan.ablate(direction, site)
    const down = await sweepSteering(model, direction, site, {
      ...options,
      strengths: [-0.2, -0.4],
      steering: other,
      tokens: 'answer',
    })
    expect(down.chosen).toBe(-0.4)
    expect(
      model.tried[0]?.options.steering?.steps.map(({ operation, tokens }) => [operation, tokens]),
    ).toEqual([
      ['ablate', 'after-first'],
      ['add', 'answer'],
    ])
    const none = await sweepSteering(model, direction, site, { ...options, strengths: [0.9] })
    expect(none).toMatchObject({ chosen: null, evaluation: null })
    await expect(
      sweepSteering(model, direction, site, { ...options, strengths: [0.1, -0.1] }),
    ).rejects.toThrow(/all positive or all negative/)
    await expect(
      sweepSteering(model, direction, site, { ...options, strengths: [0.1, 0.1] }),
    ).rejects.toThrow(/each only once/)
    await expect(sweepSteering(model, direction, site, { ...options, strengths: [] })).rejects.toThrow(/none/)
  })
})
