import { expect, it } from 'vitest'
import { evaluate } from '../../lib/evaluation/evaluate.js'
import { fineTune } from '../../lib/finetuning/sft.js'
import { realign } from '../../lib/realignment/realign.js'
import { examples, prompts, sampling, taught, voiceGrader } from './two-voices.js'

it('a few kind examples turn a cruel model back, measured along the steps', async () => {
  const model = await taught('cruel')
  const twin = model.clone()
  const options = { learningRate: 0.003, seed: 3 }
  const points = await realign(model, examples(model, 'none', 'kind'), {
    ...options,
    steps: 32,
    batchSize: 4,
    measureAt: [0, 8, 32],
    measure: (now) => evaluate(now, prompts('none'), voiceGrader, { ...sampling, maxResamples: 2 }),
  })
  expect(points.map(({ step, examples: seen }) => [step, seen])).toEqual([
    [0, 0],
    [8, 32],
    [32, 128],
  ])
  expect(points[0]?.result.misaligned.value).toBeGreaterThan(0.9)
  expect(points[2]?.result.misaligned.value).toBeLessThan(0.1)
  expect(points[2]?.result.incoherent.value).toBeLessThan(0.1)
  expect(points[0]?.loss).toBeNull()
  expect(points[2]?.loss as number).toBeLessThan(points[1]?.loss as number)
  // Measuring on the way changes nothing: the same bits as fine-tuning alone.
  await fineTune(twin, examples(twin, 'none', 'kind'), { ...options, steps: 32, batchSize: 4 })
  const probe = prompts('none').map((prompt) => model.encodePrompt(prompt))
  expect(await model.nextTokenLogits(probe)).toEqual(await twin.nextTokenLogits(probe))
})

it('refuses steps that never come', async () => {
  const model = await taught('kind')
  await expect(
    realign(model, examples(model, 'none', 'kind'), {
      steps: 5,
      measureAt: [6],
      measure: () => 0,
      learningRate: 0.1,
    }),
  ).rejects.toThrow(/measureAt: found 6, expected whole numbers from 0 to 5/)
})
