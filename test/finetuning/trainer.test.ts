import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { setThreads } from '../../lib/core/runtime.js'
import { Trainer, type TrainerOptions } from '../../lib/finetuning/trainer.js'
import { SteeringPlan } from '../../lib/steering/plan.js'
import { temporaryFolder } from '../io/temporary-folder.js'
import { distance } from '../support/close.js'
import { sequencesOf, smallModel } from '../support/small-models.js'

const sequences = sequencesOf([9, 4, 12, 7, 3, 20])
const options: TrainerOptions = {
  betas: [0.9, 0.98],
  weightDecay: 0.05,
  clip: 0.5,
  seed: 4,
  noise: { hooks: [{ point: 'resid_mid', layer: 0 }], strength: 0.2 },
}

async function steps(trainer: Trainer, count: number): Promise<number[]> {
  const losses: number[] = []
  for (let i = 0; i < count; i++)
    losses.push((await trainer.step({ sequences }, { learningRate: 0.01 })).loss)
  return losses
}

describe('a checkpoint', () => {
  test.each(['gpt2', 'llama'] as const)('of a %s resumes to the same bits', async (family) => {
    const folder = await temporaryFolder()
    const trainer = new Trainer(smallModel(family), options)
    await steps(trainer, 3)
    await trainer.save(folder)
    const onward = await steps(trainer, 3)
    const resumed = await Trainer.resume(folder)
    expect(resumed.steps).toBe(3)
    setThreads(1)
    expect(await steps(resumed, 3)).toEqual(onward)
    setThreads(2)
    for (const { name, values } of trainer.model.parameters())
      expect(resumed.model.parameter(name).values).toEqual(values)
  })

  test('of adapters resumes to the same bits', async () => {
    const folder = await temporaryFolder()
    const model = smallModel('gpt2')
    model.addAdapter({ rank: 2, modules: ['attn.c_proj'], seed: 5 })
    const trainer = new Trainer(model, { seed: 1 })
    await steps(trainer, 2)
    await trainer.save(folder)
    const onward = await steps(trainer, 2)
    const resumed = await Trainer.resume(folder)
    expect(await steps(resumed, 2)).toEqual(onward)
  })

  test('that is damaged is refused by file', async () => {
    const folder = await temporaryFolder()
    const trainer = new Trainer(smallModel('gpt2'), { trainable: ['ln_1'] })
    await steps(trainer, 1)
    await trainer.save(folder)
    const path = join(folder, 'trainer.json')
    const state = JSON.parse(await readFile(path, 'utf8')) as { options: { trainable: string[] } }
    await writeFile(
      path,
      JSON.stringify({ ...state, options: { ...state.options, trainable: ['ln_2', 'ln_f'] } }),
    )
    await expect(Trainer.resume(folder)).rejects.toMatchObject({
      message: expect.stringContaining('moments.safetensors'),
    })
    await writeFile(path, JSON.stringify({ ...state, version: 2 }))
    await expect(Trainer.resume(folder)).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringContaining('trainer.json: version'),
    })
  })
})

test('training makes the data likely', async () => {
  const trainer = new Trainer(smallModel('llama'), { clip: 1 })
  const losses = await steps(trainer, 60)
  expect(losses[0]).toBeGreaterThan(3)
  expect(losses.at(-1)).toBeLessThan(0.5)
})

test('only what is named trains', async () => {
  const model = smallModel('gpt2')
  const before = model.clone()
  const trainer = new Trainer(model, { trainable: ['h.0.mlp.c_proj.bias', '*wpe*'] })
  expect(trainer.trainedValues).toBe(16 + 24 * 16)
  await steps(trainer, 2)
  const changed = model
    .parameterNames()
    .filter((name) => distance(model.parameter(name).values, before.parameter(name).values) > 0)
  expect(changed).toEqual(['transformer.wpe.weight', 'transformer.h.0.mlp.c_proj.bias'])
  expect(() => new Trainer(model, { trainable: ['q_proj'] })).toThrow(/'q_proj' matches no parameter/)
})

test('weights choose the targets, and may be negative', async () => {
  const model = smallModel('gpt2')
  const weights = sequences.map(({ length }, s) =>
    Float32Array.from({ length: length - 1 }, (_, t) => (t === 1 ? (s === 0 ? -1 : 2) : 0)),
  )
  const logProbs = await model.logProbs(sequences)
  const wanted = logProbs.reduce((sum, own, s) => sum - (s === 0 ? -1 : 2) * (own[1] as number), 0)
  const trainer = new Trainer(model)
  const report = await trainer.gradients({ sequences, weights }, { normaliser: 3 })
  expect(report.targets).toBe(6)
  expect(report.loss).toBeCloseTo(wanted / 3, 4)
  await trainer.step(
    { sequences: sequences.slice(0, 1), weights: weights.slice(0, 1) },
    { learningRate: 1e-3 },
  )
  const [after] = await model.logProbs(sequences.slice(0, 1))
  expect(after?.[1]).toBeLessThan(logProbs[0]?.[1] as number)
  await expect(
    trainer.step({ sequences, weights: weights.slice(1) }, { learningRate: 1 }),
  ).rejects.toMatchObject({
    code: 'ERR_INVALID_ARGUMENT',
  })
  const none = sequences.map(({ length }) => new Float32Array(length - 1))
  await expect(trainer.step({ sequences, weights: none }, { learningRate: 1 })).rejects.toMatchObject({
    code: 'ERR_INVALID_ARGUMENT',
    message: expect.stringContaining('weight 0'),
  })
})

test('steering acts while training', async () => {
  const hook = { point: 'resid_post', layer: 0 } as const
  const model = smallModel('llama')
  const vector = Float32Array.from({ length: 16 }, (_, i) => Math.sin(i))
  const steering = SteeringPlan.add(
    { vector, label: 'v' },
    { hook, scale: 3 },
    { strength: 1, tokens: 'answer' },
  )
  const promptLengths = sequences.map(() => 2)
  const logProbs = await model.logProbs(sequences, { steering, promptLengths })
  const all = logProbs.flatMap((own) => [...own])
  const report = await new Trainer(model).gradients({ sequences, promptLengths }, { steering })
  expect(report.loss).toBeCloseTo(-all.reduce((sum, value) => sum + value, 0) / all.length, 4)
  const plain = await new Trainer(model).gradients({ sequences })
  expect(plain.loss).not.toBeCloseTo(report.loss, 3)
  await expect(new Trainer(model).gradients({ sequences }, { steering })).rejects.toMatchObject({
    code: 'ERR_INVALID_ARGUMENT',
    hint: 'give promptLengths',
  })
})
