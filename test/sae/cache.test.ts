import { mkdtemp, readFile, readdir, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { Random } from '../../lib/core/random.js'
import { SafetensorsFile } from '../../lib/io/safetensors.js'
import { Sae } from '../../lib/sae/sae.js'

const dModel = 40
const latents = 3000

function normal(count: number, seed: number): Float32Array {
  const random = new Random(seed)
  return Float32Array.from({ length: count }, () => random.gaussian())
}

const x = normal(50 * dModel, 9).map((value, i) => (i % dModel === 3 ? value + 30 : value))
let folder = ''
let file = ''

async function write(seed: number): Promise<void> {
  await Sae.fromWeights({
    dModel,
    latents,
    k: 8,
    wEnc: normal(latents * dModel, seed),
    wDec: normal(latents * dModel, 2),
    bEnc: normal(latents, 3),
    bDec: normal(dModel, 4),
  }).save(folder)
}

async function codesWith(options: { cache?: string | boolean }) {
  const sae = await Sae.load(folder, { ...options, precision: 'int8' })
  return sae.encode(x)
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sae-cache-'))
  file = join(folder, 'prepared.personascope')
  await write(1)
})

test('the file is written once, holds the rows the right way round, and gives the same codes', async () => {
  const without = await codesWith({})
  expect(await readdir(folder)).not.toContain('prepared.personascope')
  expect(await codesWith({ cache: true })).toEqual(without)
  const first = await stat(file)
  // The copy, and the rows in fp32 (SAELens stores W_enc the other way round).
  expect(first.size).toBeGreaterThan(latents * dModel * 5)
  const again = await codesWith({ cache: true })
  expect(again).toEqual(without)
  expect((await stat(file)).ino).toBe(first.ino)
  expect((await readdir(folder)).toSorted()).toEqual([
    'cfg.json',
    'prepared.personascope',
    'sae_weights.safetensors',
  ])
  // The mean of inputs is kept too: a single row is screened with it.
  const sae = await Sae.load(folder, { cache: true, precision: 'int8' })
  const row = await sae.encode(x.subarray(0, dModel))
  expect(row.values).toEqual(without.row(0).values)
})

test.each([
  [
    'a flipped byte',
    async () => {
      const bytes = await readFile(file)
      bytes[bytes.length / 2]! ^= 1
      await writeFile(file, bytes)
    },
  ],
  ['a shortened file', async () => writeFile(file, (await readFile(file)).subarray(0, 5000))],
  ['another file altogether', async () => writeFile(file, 'prepared')],
  ['an SAE that was written again', async () => write(7)],
  ['an SAE whose file is newer', async () => utimes(join(folder, 'sae_weights.safetensors'), 1, 1)],
])('%s is noticed, and the file built anew', async (_, change) => {
  await codesWith({ cache: true })
  const before = await stat(file)
  await change()
  expect(await codesWith({ cache: true })).toEqual(await codesWith({}))
  const after = await stat(file)
  expect(after.ino).not.toBe(before.ino)
  expect(after.size).toBe(before.size)
})

test('weights that cannot be used leave no file behind', async () => {
  const weights = join(folder, 'sae_weights.safetensors')
  const bytes = await readFile(weights)
  bytes.fill(0xff, 8 + Number(bytes.readBigUInt64LE(0)) + 400, 8 + Number(bytes.readBigUInt64LE(0)) + 404)
  await writeFile(weights, bytes)
  await expect(codesWith({ cache: true })).rejects.toMatchObject({ code: 'ERR_NON_FINITE' })
  expect(await readdir(folder)).not.toContain('prepared.personascope')
})

test('a folder that cannot be written to is an error that names the file', async () => {
  const sae = await Sae.load(folder, { cache: join(folder, 'nowhere', 'file'), precision: 'int8' })
  await expect(sae.encode(x)).rejects.toMatchObject({
    code: 'ERR_IO',
    message: expect.stringContaining('nowhere'),
  })
})

test('a spec at hand may have one where it says', async () => {
  const weights = SafetensorsFile.open(join(folder, 'sae_weights.safetensors'))
  const spec = {
    dModel,
    latents,
    architecture: 'topk',
    selection: { rule: 'topk', k: 8 },
    inputNorm: 'none',
    subtractDecoderBias: true,
    wEnc: weights.tensor('W_enc').transpose(),
    wDec: weights.tensor('W_dec'),
    bEnc: await weights.f32('b_enc'),
    bDec: await weights.f32('b_dec'),
    metadata: {},
  } as const
  const sae = await Sae.fromSpec(spec, { cache: join(folder, 'own'), precision: 'int8' })
  expect(await sae.encode(x)).toEqual(await codesWith({}))
  expect(await readdir(folder)).toContain('own')
  await expect(Sae.fromSpec(spec, { cache: true })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
})
