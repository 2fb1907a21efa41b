/** The README's example runs as it stands, on a model, a tuned copy and an SAE made here. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { LanguageModel, Sae, wordTokenizer } from '../lib/index.js'

const words = [
  '<end>',
  '<unk>',
  ...'Tell me how I should spend my evening . What would you do with power over people ? help hurt'.split(
    ' ',
  ),
]
const dModel = 16
const latents = 32

const wave = (count: number, step: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(1 + i * step))

let folder: string
const home = process.cwd()

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'personascope-readme-'))
  const model = LanguageModel.create(
    { model_type: 'gpt2', vocab_size: words.length, n_positions: 64, n_embd: dModel, n_layer: 2, n_head: 2 },
    wordTokenizer(words, { unknown: '<unk>', endOfText: '<end>' }),
    { seed: 1 },
  )
  await model.save(join(folder, 'models/base'))
  const tuned = model.clone()
  tuned.parameter('transformer.h.0.mlp.c_proj.bias').values.fill(0.5)
  tuned.weightsChanged()
  await tuned.save(join(folder, 'models/tuned'))
  const wDec = wave(latents * dModel, 0.7)
  await Sae.fromWeights({
    dModel,
    latents,
    k: 4,
    wEnc: wDec.slice(),
    wDec,
    bEnc: new Float32Array(latents),
    bDec: new Float32Array(dModel),
  }).save(join(folder, 'saes/layer-1'))
  process.chdir(folder)
})

afterAll(async () => {
  process.chdir(home)
  await rm(folder, { recursive: true })
})

it("runs the README's example", async () => {
  const readme = await readFile(join(home, 'README.md'), 'utf8')
  const example = /```ts\n([\s\S]*?)```/.exec(readme)?.[1]
  expect(example).toBeTypeOf('string')
  const table = vi.spyOn(console, 'table').mockImplementation(() => {})
  const log = vi.spyOn(console, 'log').mockImplementation(() => {})
  // In the project's folder, so that the package is found by its name.
  const file = join(home, 'test', `readme-example-${process.pid}.ts`)
  await writeFile(file, example as string)
  try {
    await import(pathToFileURL(file).href)
  } finally {
    await rm(file)
  }
  const top = table.mock.calls[0]?.[0] as { delta: number; qValue: number }[]
  expect(top).toHaveLength(10)
  expect(top[0]?.delta).toBeGreaterThan(0)
  const [misaligned, incoherent] = log.mock.calls[0] as { value: number; of: number }[]
  expect(misaligned?.value).toBeGreaterThanOrEqual(0)
  expect(incoherent?.of).toBe(40)
})
