import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { SafetensorsFile, writeSafetensors, type TensorSource } from '../../lib/io/safetensors.js'
import { Trainer } from '../../lib/finetuning/trainer.js'
import type { Hook } from '../../lib/models/hook.js'
import { NativeLanguageModel } from '../../lib/models/native-language-model.js'
import { SteeringPlan } from '../../lib/steering/plan.js'
import { temporaryFolder } from '../io/temporary-folder.js'
import { distance } from '../support/close.js'
import { gpt2Config, sequencesOf, smallModel, tokenizer } from '../support/small-models.js'

const hook: Hook = { point: 'resid_mid', layer: 1 }
const sequences = sequencesOf([5, 1, 9, 3])

/** The tensors of a saved model, to be written again with changes. */
async function tensorsOf(folder: string): Promise<TensorSource[]> {
  const file = SafetensorsFile.open(join(folder, 'model.safetensors'))
  return Promise.all(
    [...file.tensors.values()].map(async ({ name, shape }) => ({
      name,
      shape,
      dtype: 'F32' as const,
      data: (await file.f32(name)).slice(),
    })),
  )
}

function deviation(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length)
}

/** Upper half of fp32: bfloat16 by truncation. */
function toBf16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  return Uint16Array.from(bits, (word) => word >>> 16)
}

describe.each(['gpt2', 'llama'] as const)('a %s folder', (family) => {
  test('gives back the same bits', async () => {
    const folder = await temporaryFolder()
    const model = smallModel(family)
    await model.save(folder)
    const again = await NativeLanguageModel.load(folder)
    for (const { name, values } of model.parameters()) expect(again.parameter(name).values).toEqual(values)
    expect(await again.logProbs(sequences)).toEqual(await model.logProbs(sequences))
    expect(again.shape).toEqual(model.shape)
    expect(again.tokenizer.encode('w3 w4 nothing')).toEqual(Int32Array.of(7, 8, 1))
  })

  test('may be sharded, in bfloat16, and without the prefix of its base model', async () => {
    const folder = await temporaryFolder()
    const model = smallModel(family)
    await model.save(folder)
    const tensors = (await tensorsOf(folder)).map(({ name, shape, data }) => ({
      name: name.replace(/^(transformer|model)\./, ''),
      shape,
      dtype: 'BF16' as const,
      data: toBf16(data as Float32Array),
    }))
    const half = Math.ceil(tensors.length / 2)
    const shards = {
      'model-1.safetensors': tensors.slice(0, half),
      'model-2.safetensors': tensors.slice(half),
    }
    const weightMap: Record<string, string> = {}
    for (const [name, own] of Object.entries(shards)) {
      await writeSafetensors(join(folder, name), own)
      for (const tensor of own) weightMap[tensor.name] = name
    }
    await rename(join(folder, 'model.safetensors'), join(folder, 'unused'))
    await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }))
    const again = await NativeLanguageModel.load(folder)
    for (const { name, values } of model.parameters()) {
      const read = again.parameter(name).values
      expect(toBf16(read)).toEqual(toBf16(values))
      expect(distance(read, values)).toBeLessThan(0.01)
    }
  })

  test('is refused by file and tensor where it lies', async () => {
    const folder = await temporaryFolder()
    const model = smallModel(family)
    await model.save(folder)
    const tensors = await tensorsOf(folder)
    const path = join(folder, 'model.safetensors')
    const first = tensors[0] as TensorSource
    const attempt = async (changed: TensorSource[]): Promise<unknown> => {
      await writeSafetensors(path, changed)
      return NativeLanguageModel.load(folder)
    }
    await expect(attempt(tensors.slice(1))).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringMatching(new RegExp(`model.safetensors.*'${first.name}'.*missing`)),
    })
    await expect(attempt([...tensors, { ...first, name: 'lm_head.bias' }])).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringContaining("'lm_head.bias'"),
    })
    await expect(
      attempt([
        { ...first, shape: [first.shape[1] as number, first.shape[0] as number] },
        ...tensors.slice(1),
      ]),
    ).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringContaining(`'${first.name}' has shape`),
    })
    const damaged = (first.data as Float32Array).slice()
    damaged[7] = Number.NaN
    await expect(attempt([{ ...first, data: damaged }, ...tensors.slice(1)])).rejects.toMatchObject({
      code: 'ERR_NON_FINITE',
      message: expect.stringContaining(`'${first.name}', value 7`),
    })
    await writeFile(path, (await readFile(path)).subarray(0, 4000))
    await expect(NativeLanguageModel.load(folder)).rejects.toMatchObject({ code: 'ERR_FORMAT' })
    await expect(NativeLanguageModel.load(join(folder, 'no'))).rejects.toMatchObject({
      code: 'ERR_NOT_FOUND',
    })
  })
})

test('a tied model may hold its unembedding again, but not another one', async () => {
  const folder = await temporaryFolder()
  const model = smallModel('gpt2')
  await model.save(folder)
  const tensors = await tensorsOf(folder)
  const embedding = tensors.find(({ name }) => name === 'transformer.wte.weight') as TensorSource
  await writeSafetensors(join(folder, 'model.safetensors'), [
    ...tensors,
    { ...embedding, name: 'lm_head.weight' },
  ])
  await expect(NativeLanguageModel.load(folder)).resolves.toBeInstanceOf(NativeLanguageModel)
  const other = (embedding.data as Float32Array).map((value) => value + 1)
  await writeSafetensors(join(folder, 'model.safetensors'), [
    ...tensors,
    { ...embedding, name: 'lm_head.weight', data: other },
  ])
  await expect(NativeLanguageModel.load(folder)).rejects.toMatchObject({
    code: 'ERR_FORMAT',
    message: expect.stringContaining('tie_word_embeddings'),
  })
})

test('the same seed gives the same weights, as wide as configured', () => {
  const model = smallModel('gpt2', 3)
  const name = 'transformer.h.0.mlp.c_fc.weight'
  expect(smallModel('gpt2', 3).parameter(name).values).toEqual(model.parameter(name).values)
  expect(smallModel('gpt2', 4).parameter(name).values).not.toEqual(model.parameter(name).values)
  expect(deviation(model.parameter(name).values)).toBeCloseTo(0.3, 1)
  expect(deviation(model.parameter('transformer.h.1.mlp.c_proj.weight').values)).toBeCloseTo(0.15, 1)
  expect(new Set(model.parameter('transformer.ln_f.weight').values)).toEqual(new Set([1]))
  expect(new Set(model.parameter('transformer.h.0.attn.c_attn.bias').values)).toEqual(new Set([0]))
})

test('a clone is the same and stays as it is', async () => {
  const model = smallModel('llama')
  const copy = model.clone()
  const before = await copy.logProbs(sequences)
  expect(before).toEqual(await model.logProbs(sequences))
  model.parameter('model.layers.0.mlp.up_proj.weight').values.fill(0)
  model.weightsChanged()
  expect(await copy.logProbs(sequences)).toEqual(before)
  expect(await model.logProbs(sequences)).not.toEqual(before)
})

describe('capture', () => {
  test('names the rows it gives', async () => {
    const model = smallModel('gpt2')
    const all = await model.capture(sequences, { hook })
    expect(all.rows).toBe(18)
    expect(Array.from(all.tokens)).toEqual(sequences.flatMap((sequence) => [...sequence]))
    expect(Array.from(all.position.slice(0, 7))).toEqual([0, 1, 2, 3, 4, 0, 0])
    expect(Array.from(all.sequence.slice(0, 7))).toEqual([0, 0, 0, 0, 0, 1, 2])
    const last = await model.capture(sequences, { hook, tokens: 'last' })
    expect(Array.from(last.position)).toEqual([4, 0, 8, 2])
    expect(last.values.subarray(0, 16)).toEqual(all.values.subarray(4 * 16, 5 * 16))
    const later = await model.capture(sequences, { hook, tokens: 'after-first' })
    expect(later.rows).toBe(14)
    const masks = sequences.map(({ length }) => new Uint8Array(length))
    ;(masks[2] as Uint8Array)[3] = 1
    const one = await model.capture(sequences, { hook, tokens: masks })
    expect([one.rows, one.sequence[0], one.position[0]]).toEqual([1, 2, 3])
    expect(one.values).toEqual(all.values.subarray(9 * 16, 10 * 16))
    expect((await model.capture([], { hook })).rows).toBe(0)
  })

  test('sees steering, in units of the scale', async () => {
    const model = smallModel('gpt2')
    const vector = new Float32Array(16).fill(2)
    const steering = SteeringPlan.add({ vector, label: 'test' }, { hook, scale: 6 }, { strength: 0.5 })
    const plain = await model.capture(sequences, { hook })
    const steered = await model.capture(sequences, { hook, steering })
    const wanted = plain.values.map((value, i) =>
      plain.position[Math.floor(i / 16)] === 0 ? value : value + (0.5 * 6) / 4,
    )
    expect(distance(steered.values, wanted)).toBeLessThan(1e-6)
  })

  test('refuses what cannot be', async () => {
    const model = smallModel('gpt2')
    const invalid = { code: 'ERR_INVALID_ARGUMENT' }
    await expect(model.capture(sequences, { hook: { point: 'resid_pre', layer: 2 } })).rejects.toMatchObject(
      invalid,
    )
    await expect(model.capture([Int32Array.of(1, 30)], { hook })).rejects.toMatchObject({
      ...invalid,
      message: expect.stringContaining('token 1 of sequence 0 is 30'),
    })
    await expect(model.capture([new Int32Array(25)], { hook })).rejects.toMatchObject({
      ...invalid,
      message: expect.stringContaining('at most 24'),
    })
    await expect(model.capture([new Int32Array(0)], { hook })).rejects.toMatchObject(invalid)
    await expect(model.capture(sequences, { hook, tokens: [new Uint8Array(5)] })).rejects.toMatchObject(
      invalid,
    )
    const vector = new Float32Array(15).fill(1)
    const steering = SteeringPlan.add({ vector, label: 'short' }, { hook, scale: 1 }, { strength: 1 })
    await expect(model.capture(sequences, { hook, steering })).rejects.toMatchObject({
      ...invalid,
      message: expect.stringContaining("'short'"),
    })
    await expect(model.capture(sequences, { hook, signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    })
  })
})

describe('generate', () => {
  const prompts = ['w1 w2', [{ role: 'user' as const, content: 'w5 w6' }], Int32Array.of(9, 9, 4)]

  test('answers each prompt by its own stream', async () => {
    const model = smallModel('llama')
    const options = { samples: 5, maxNewTokens: 6, seed: 3, stop: [] }
    const all = await model.generate(prompts, options)
    expect(all.map(({ prompt, sample }) => [prompt, sample])).toEqual(
      prompts.flatMap((_, prompt) => [0, 1, 2, 3, 4].map((sample) => [prompt, sample])),
    )
    expect(await model.generate(prompts, { ...options, batchSize: 2 })).toEqual(all)
    expect(
      (await model.generate(prompts.slice(0, 1), { ...options, samples: 2 })).map(({ tokens }) => tokens),
    ).toEqual(all.slice(0, 2).map(({ tokens }) => tokens))
    expect(await model.generate(prompts, { ...options, seed: 4 })).not.toEqual(all)
    expect(new Set(all.slice(0, 5).map(({ text }) => text)).size).toBeGreaterThan(1)
    expect(all.every(({ tokens, logProbs }) => tokens.length === 6 && logProbs.length === 6)).toBe(true)
  })

  test('is greedy at temperature 0, and agrees with the logits', async () => {
    const model = smallModel('gpt2')
    const [answer] = await model.generate(['w1 w2'], { temperature: 0, maxNewTokens: 4, stop: [] })
    let tokens = model.encodePrompt('w1 w2')
    for (const token of answer?.tokens ?? []) {
      const logits = await model.nextTokenLogits([tokens])
      expect(token).toBe(logits.indexOf(Math.max(...logits)))
      tokens = Int32Array.from([...tokens, token])
    }
  })

  test('ends at a stop token, which is scored but not part of the answer', async () => {
    const model = smallModel('gpt2')
    const options = { maxNewTokens: 12, samples: 40, seed: 1 }
    const answers = await model.generate(['w1'], options)
    const stopped = answers.filter((answer) => answer.stopped)
    expect(stopped.length).toBeGreaterThan(0)
    for (const { tokens, logProbs, text } of stopped) {
      expect(tokens.includes(0)).toBe(false)
      expect(logProbs.length).toBe(tokens.length + 1)
      expect(text).not.toContain('<end>')
    }
    const long = await model.generate(['w1'], { ...options, stop: [] })
    for (const [i, answer] of answers.entries())
      expect(long[i]?.tokens.slice(0, answer.tokens.length)).toEqual(answer.tokens)
  })

  test('follows steering, and can be aborted', async () => {
    const model = smallModel('gpt2')
    // The unembedding of one word, strong enough at the top of the model to be all that is said.
    const word = tokenizer.id('w7') as number
    const vector = model.unembedding().slice(word * 16, (word + 1) * 16)
    const top: Hook = { point: 'resid_post', layer: 1 }
    const steering = SteeringPlan.add(
      { vector, label: 'w7' },
      { hook: top, scale: 1000 },
      { strength: 1, tokens: 'all' },
    )
    const answers = await model.generate(['w1 w2'], { steering, maxNewTokens: 5, samples: 3, temperature: 0 })
    const [other] = await model.generate(['w1 w2'], { maxNewTokens: 5, temperature: 0, stop: [] })
    expect(answers.map(({ tokens }) => [...tokens])).not.toContainEqual([...(other?.tokens ?? [])])
    expect(new Set(answers.flatMap(({ tokens }) => [...tokens])).size).toBe(1)
    const controller = new AbortController()
    const running = model.generate(['w1'], {
      samples: 100_000,
      maxNewTokens: 20,
      stop: [],
      signal: controller.signal,
      onProgress: () => controller.abort(),
    })
    await expect(running).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  })
})

describe('adapters', () => {
  test('are saved and read in the layout of PEFT, and merge into the weights', async () => {
    for (const family of ['gpt2', 'llama'] as const) {
      const folder = await temporaryFolder()
      const model = smallModel(family)
      const base = model.clone()
      const modules = family === 'gpt2' ? ['c_attn', '*mlp.c_proj'] : ['q_proj', 'v_proj', 'down_proj']
      model.addAdapter({ rank: 3, alpha: 6, modules, rankStabilised: true, seed: 1 })
      const trainer = new Trainer(model)
      for (let step = 0; step < 3; step++) await trainer.step({ sequences }, { learningRate: 0.05 })
      const trained = await model.logProbs(sequences)
      expect(trained).not.toEqual(await base.logProbs(sequences))
      await model.saveAdapter(folder)
      const config = JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8')) as Record<
        string,
        unknown
      >
      expect(config).toMatchObject({ peft_type: 'LORA', r: 3, lora_alpha: 6, use_rslora: true })
      expect(config['fan_in_fan_out']).toBe(family === 'gpt2')
      const file = SafetensorsFile.open(join(folder, 'adapter_model.safetensors'))
      const name = family === 'gpt2' ? 'transformer.h.0.attn.c_attn' : 'model.layers.0.self_attn.q_proj'
      expect(file.require(`base_model.model.${name}.lora_A.weight`).shape).toEqual([3, 16])
      expect(file.require(`base_model.model.${name}.lora_B.weight`).shape).toEqual([
        family === 'gpt2' ? 48 : 16,
        3,
      ])
      await base.loadAdapter(folder)
      expect(await base.logProbs(sequences)).toEqual(trained)
      await base.mergeAdapter()
      expect(base.adapter).toBeUndefined()
      const merged = await base.logProbs(sequences)
      for (const [s, own] of merged.entries())
        expect(distance(own, trained[s] as Float32Array)).toBeLessThan(1e-5)
      model.removeAdapter()
      expect(await model.logProbs(sequences)).toEqual(await smallModel(family).logProbs(sequences))
    }
  })

  test('are refused where the model has no such module or already has some', async () => {
    const folder = await temporaryFolder()
    const model = smallModel('gpt2')
    expect(() => model.addAdapter({ rank: 2, modules: ['q_proj'], seed: 1 })).toThrow(/q_proj/)
    model.addAdapter({ rank: 2, modules: ['c_attn'], seed: 1 })
    expect(() => model.addAdapter({ rank: 2, modules: ['c_attn'], seed: 1 })).toThrow(/already/)
    await model.saveAdapter(folder)
    await mkdir(folder, { recursive: true })
    const path = join(folder, 'adapter_config.json')
    const config = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>
    await writeFile(path, JSON.stringify({ ...config, use_dora: true }))
    await expect(smallModel('gpt2').loadAdapter(folder)).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringContaining('use_dora'),
    })
    await writeFile(path, JSON.stringify({ ...config, r: 3 }))
    const other = smallModel('gpt2')
    await expect(other.loadAdapter(folder)).rejects.toMatchObject({ code: 'ERR_FORMAT' })
    expect(other.adapter).toBeUndefined()
  })
})

test('a tokenizer larger than the vocabulary is refused', () => {
  expect(() => NativeLanguageModel.create({ ...gpt2Config, vocab_size: 10 }, tokenizer, { seed: 1 })).toThrow(
    /tokens/,
  )
})

test('one model serves many calls at once, between the steps of its training', async () => {
  const model = smallModel('gpt2')
  const options = { samples: 20, maxNewTokens: 8, stop: [] }
  const alone = await model.generate(['w1 w2', 'w3'], { ...options, seed: 1 })
  const captured = await model.capture(sequences, { hook })
  const together = await Promise.all(
    Array.from({ length: 12 }, (_, i) =>
      i % 2 === 0
        ? model.generate(['w1 w2', 'w3'], { ...options, seed: 1 })
        : model.capture(sequences, { hook }),
    ),
  )
  for (const [i, result] of together.entries()) expect(result).toEqual(i % 2 === 0 ? alone : captured)
  // While weights change between steps, every call sees one state of them or another, never a mixture that fails.
  const trainer = new Trainer(model)
  const training = (async () => {
    for (let step = 0; step < 10; step++) await trainer.step({ sequences }, { learningRate: 1e-3 })
  })()
  const answers = await Promise.all(
    Array.from({ length: 10 }, (_, seed) => model.generate(['w1'], { ...options, seed })),
  )
  await training
  expect(answers.every((list) => list.length === 20)).toBe(true)
})
