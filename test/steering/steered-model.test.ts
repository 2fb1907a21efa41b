import { join } from 'node:path'
import { expect, it } from 'vitest'
import { ActivationStore } from '../../lib/activations/store.js'
import { ActivationStoreWriter } from '../../lib/activations/writer.js'
import { evaluate } from '../../lib/evaluation/evaluate.js'
import { nearestTokens } from '../../lib/interpretation/nearest-tokens.js'
import { negate, randomDirection, type Direction } from '../../lib/steering/direction.js'
import { meanDifference } from '../../lib/steering/mean-difference.js'
import { SteeringPlan } from '../../lib/steering/plan.js'
import { residualScale } from '../../lib/steering/residual-scale.js'
import { sweepSteering, type Sweep } from '../../lib/steering/sweep.js'
import { temporaryFolder } from '../io/temporary-folder.js'
import { pretrained, prompts, sampling, voiceGrader } from '../realignment/two-voices.js'

const hook = { point: 'resid_post', layer: 0 } as const

it('the mean difference of two voices steers a real model from one to the other', async () => {
  const model = await pretrained()
  const encoded = (mark: 'kind' | 'cruel'): Int32Array[] =>
    prompts(mark).map((prompt) => model.encodePrompt(prompt))
  const site = await residualScale(model, [...encoded('kind'), ...encoded('cruel')], { hook, tokens: 'last' })
  const direction = await meanDifference(
    { model, sequences: encoded('cruel'), tokens: 'last' },
    { model, sequences: encoded('kind'), tokens: 'last' },
    { hook },
  )
  const sweep = (asked: 'kind' | 'cruel', along: Direction): Promise<Sweep> =>
    sweepSteering(model, along, site, {
      ...sampling,
      strengths: [0.5, 1, 1.5, 2, 3],
      grader: voiceGrader,
      heldOut: prompts(asked),
      prompts: prompts(asked),
    })
  for (const asked of ['kind', 'cruel'] as const) {
    const before = await evaluate(model, prompts(asked), voiceGrader, sampling)
    expect(before.misaligned.value).toBeCloseTo(asked === 'cruel' ? 1 : 0, 1)
  }
  const up = await sweep('kind', direction)
  expect(up.evaluation?.misaligned.value).toBeGreaterThan(0.8)
  const down = await sweep('cruel', negate(direction))
  expect(down.evaluation?.misaligned.value).toBeLessThan(0.2)
  for (const seed of [1, 2, 3]) {
    const control = await evaluate(model, prompts('kind'), voiceGrader, {
      ...sampling,
      steering: SteeringPlan.add(randomDirection(32, seed), site, { strength: up.chosen as number }),
    })
    expect(control.misaligned.value ?? 0).toBeLessThan(0.5)
  }
})

it('a real model fills a store that gives back its residuals, and its vectors read as tokens', async () => {
  const model = await pretrained()
  const folder = join(await temporaryFolder(), 'store')
  const sequences = prompts('none').map((prompt) => model.encodePrompt(prompt))
  const captured = await model.capture(sequences, { hook })
  const writer = await ActivationStoreWriter.create(folder, { dModel: 32, hook })
  await writer.append(captured)
  await writer.close()
  const store = await ActivationStore.open(folder)
  const whole = Array.from({ length: captured.rows }, (_, i) => i)
  expect(await store.read(whole)).toMatchObject({
    values: captured.values,
    sequence: captured.sequence,
    position: captured.position,
    tokens: captured.tokens,
  })
  const row = model.unembedding().slice(4 * 32, 5 * 32)
  expect((await nearestTokens(row, model, { count: 1 })).nearest[0]).toMatchObject({
    id: 4,
    token: 'rain',
    score: expect.closeTo(1, 6),
  })
})
