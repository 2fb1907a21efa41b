/** The engine against torch: fixtures written by test/fixtures/make_transformer_fixtures.py (float64 torch). */
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { Trainer } from '../../lib/finetuning/trainer.js'
import { SafetensorsFile } from '../../lib/io/safetensors.js'
import type { Hook } from '../../lib/models/hook.js'
import { NativeLanguageModel } from '../../lib/models/native-language-model.js'
import { distance } from '../support/close.js'

const root = fileURLToPath(new URL('../fixtures/transformer/', import.meta.url))

interface Fixture {
  model: NativeLanguageModel
  sequences: Int32Array[]
  weights: Float32Array[]
  expected: (name: string) => Promise<Float32Array>
}

async function fixture(name: string): Promise<Fixture> {
  const model = await NativeLanguageModel.load(`${root}${name}`)
  const file = SafetensorsFile.open(`${root}${name}/expected.safetensors`)
  const tokens = file.i32('tokens')
  const allWeights = await file.f32('weights')
  const sequences: Int32Array[] = []
  const weights: Float32Array[] = []
  let token = 0
  let weight = 0
  for (const length of file.i32('lengths')) {
    sequences.push(tokens.slice(token, token + length))
    weights.push(allWeights.slice(weight, weight + length - 1))
    token += length
    weight += length - 1
  }
  return { model, sequences, weights, expected: (tensor) => file.f32(tensor) }
}

describe.each(['gpt2', 'gpt2-untied', 'llama'])('%s against torch', (name) => {
  test('logits after every token', async () => {
    const { model, sequences, expected } = await fixture(name)
    const prefixes = sequences.flatMap((sequence) => Array.from(sequence, (_, t) => sequence.slice(0, t + 1)))
    expect(distance(await model.nextTokenLogits(prefixes), await expected('logits'))).toBeLessThan(2e-5)
  })

  test('log-probabilities and loss', async () => {
    const { model, sequences, weights, expected } = await fixture(name)
    const logits = await expected('logits')
    const vocabulary = model.shape.vocabularySize
    const logProbs = await model.logProbs(sequences)
    let row = 0
    for (const [s, sequence] of sequences.entries()) {
      const wanted = Float32Array.from({ length: sequence.length - 1 }, (_, t) => {
        const own = logits.subarray((row + t) * vocabulary, (row + t + 1) * vocabulary)
        const most = Math.max(...own)
        const total = own.reduce((sum, value) => sum + Math.exp(value - most), 0)
        return (own[sequence[t + 1] as number] as number) - most - Math.log(total)
      })
      expect(distance(logProbs[s] as Float32Array, wanted)).toBeLessThan(2e-5)
      row += sequence.length
    }
    const [loss] = await expected('loss')
    const scale = weights.flatMap((own) => [...own]).reduce((sum, weight) => sum + Math.abs(weight), 0)
    const found = await model.loss(sequences, { weights })
    expect((found.loss * found.weight) / scale).toBeCloseTo(loss as number, 5)
  })

  test('residual stream and its gradient at every hook', async () => {
    const { model, sequences, weights, expected } = await fixture(name)
    const scale = weights.flatMap((own) => [...own]).reduce((sum, weight) => sum + Math.abs(weight), 0)
    for (let layer = 0; layer < model.shape.layers; layer++) {
      for (const point of ['resid_pre', 'resid_mid', 'resid_post'] as const) {
        const hook: Hook = { point, layer }
        const stream = await model.capture(sequences, { hook })
        expect(distance(stream.values, await expected(`stream.${point}.${layer}`))).toBeLessThan(2e-5)
        const gradient = await model.gradientAt(sequences, { hook, weights })
        const mean = gradient.values.map((value) => value / scale)
        expect(distance(mean, await expected(`gradient.${point}.${layer}`))).toBeLessThan(1e-5)
      }
    }
  })

  test('gradient of every parameter, and two steps of AdamW', async () => {
    const { model, sequences, weights, expected } = await fixture(name)
    const trainer = new Trainer(model, { betas: [0.9, 0.95], eps: 1e-3, weightDecay: 0.1 })
    const first = await trainer.step({ sequences, weights }, { learningRate: 0.01 })
    expect(first.loss).toBeCloseTo((await expected('loss'))[0] as number, 5)
    let squares = 0
    for (const parameter of model.parameterNames()) {
      const gradient = trainer.gradient(parameter) as Float32Array
      expect(distance(gradient, await expected(`gradient.${parameter}`))).toBeLessThan(1e-5)
      for (const value of gradient) squares += value * value
    }
    expect(first.gradientNorm).toBeCloseTo(Math.sqrt(squares), 4)
    await trainer.step({ sequences, weights }, { learningRate: 0.01 })
    for (const parameter of model.parameters())
      expect(distance(parameter.values, await expected(`after.${parameter.name}`))).toBeLessThan(1e-5)
  })
})
