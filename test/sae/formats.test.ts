import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { SafetensorsFile } from '../../lib/io/safetensors.js'
import { findSae } from '../../lib/sae/formats/index.js'
import { Sae } from '../../lib/sae/sae.js'
import { temporaryFolder } from '../io/temporary-folder.js'

/** Written by test/fixtures/make_sae_fixtures.py, which shares no code with the package. */
const fixtures = join(import.meta.dirname, '../fixtures/sae')

const cases = readdirSync(fixtures, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('expected.safetensors'))
  .map((name) => dirname(name))
  .toSorted()

const readers: Record<string, string> = {
  saelens: 'SAELens',
  sparsify: 'sparsify',
  openai: 'OpenAI sparse_autoencoder',
  'gemma-scope': 'Gemma Scope',
  'dictionary-learning': 'dictionary_learning',
  crosscoder: 'crosscoder',
}

async function expected(name: string) {
  const file = SafetensorsFile.open(join(fixtures, name, 'expected.safetensors'))
  return {
    inputs: await file.f32('inputs'),
    codes: await file.f32('codes'),
    reconstructions: await file.f32('reconstructions'),
  }
}

/** Where the SAE of a case lies; that of the seeds is the second of two. */
const placeOf = (name: string): string => join(fixtures, name, name.endsWith('seeds') ? 'seed1' : '')

function dense(sae: Sae, codes: Awaited<ReturnType<Sae['encode']>>): Float32Array {
  const all = new Float32Array(codes.rows * sae.latents)
  for (let row = 0; row < codes.rows; row++) {
    const { indices, values } = codes.row(row)
    for (const [i, latent] of indices.entries()) all[row * sae.latents + latent] = values[i]!
  }
  return all
}

/** Equal to 1e-5 of the largest value of the row. */
function close(found: Float32Array, wanted: Float32Array, width: number): void {
  expect(found.length).toBe(wanted.length)
  for (let begin = 0; begin < wanted.length; begin += width) {
    const row = wanted.subarray(begin, begin + width)
    const scale = Math.max(...row.map(Math.abs), 1e-30)
    for (const [i, value] of row.entries())
      expect(Math.abs(found[begin + i]! - value) / scale, `value ${begin + i}`).toBeLessThan(1e-5)
  }
}

async function agrees(path: string, name: string): Promise<Sae> {
  const sae = await Sae.load(path)
  const { inputs, codes, reconstructions } = await expected(name)
  const found = await sae.encode(inputs)
  const all = dense(sae, found)
  expect([...all].map((value) => value > 0)).toEqual([...codes].map((value) => value > 0))
  close(all, codes, sae.latents)
  close(await sae.decode(found, { input: inputs }), reconstructions, sae.dOut)
  return sae
}

describe('golden vectors', () => {
  it('cover every format', () => {
    expect([...new Set(cases.map((name) => name.split('/')[0]!))].toSorted()).toEqual(
      Object.keys(readers).toSorted(),
    )
    expect(cases.length).toBeGreaterThanOrEqual(30)
  })

  it.each(cases)('%s: codes and reconstructions', async (name) => {
    expect((await findSae(placeOf(name))).format).toBe(readers[name.split('/')[0]!])
    await agrees(placeOf(name), name)
  })
})

/** What SAELens has no word for. */
const inexpressible: Record<string, RegExp> = {
  'sparsify/groupmax': /groupmax/,
  'sparsify/skip-transcoder': /transcoders that select by topk/,
  'crosscoder/batchtopk': /crosscoders/,
  'crosscoder/decoupled': /crosscoders/,
  'crosscoder/mixed-norm': /crosscoders/,
  'crosscoder/relu': /crosscoders/,
  'crosscoder/sae-norm': /crosscoders/,
}

describe('written as SAELens folders', () => {
  it.each(cases.filter((name) => !(name in inexpressible)))('%s', async (name) => {
    const sae = await Sae.load(placeOf(name))
    const folder = join(await temporaryFolder(), 'written')
    await sae.save(folder)
    expect((await findSae(folder)).format).toBe('SAELens')
    const again = await agrees(folder, name)
    expect(again.metadata).toEqual(sae.metadata)
  })

  it.each(Object.entries(inexpressible))('not %s', async (name, refusal) => {
    const sae = await Sae.load(placeOf(name))
    const folder = join(await temporaryFolder(), 'written')
    await expect(sae.save(folder)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(refusal),
    })
    expect(readdirSync(dirname(folder))).toEqual([])
  })
})

describe('metadata', () => {
  it.each([
    ['saelens/topk', { modelName: 'gpt2-small', hook: { point: 'resid_post', layer: 3 }, contextSize: 128 }],
    ['saelens/topk-flat', { hook: { point: 'resid_pre', layer: 5 }, prependBos: false }],
    ['saelens/standard-flat', { hook: undefined }],
    ['sparsify/layers.5', { hook: { point: 'resid_post', layer: 5 } }],
    [
      'gemma-scope/gemma-scope-2b-pt-res/layer_3/width_32/average_l0_8',
      { modelName: 'google/gemma-2-2b', hook: { point: 'resid_post', layer: 3 } },
    ],
    [
      'dictionary-learning/TopK',
      { modelName: 'EleutherAI/pythia-70m', hook: { point: 'resid_post', layer: 3 } },
    ],
  ])('%s', async (name, metadata) => {
    expect((await Sae.load(placeOf(name))).metadata).toMatchObject(metadata)
  })
})

async function changed(name: string, file: string, change: (text: string) => string): Promise<string> {
  const folder = join(await temporaryFolder(), 'copy')
  await cp(join(fixtures, name), folder, { recursive: true })
  await writeFile(join(folder, file), change(await readFile(join(folder, file), 'utf8')))
  return folder
}

describe('refusals', () => {
  it('a threshold that was never set is not read as dense', async () => {
    await expect(Sae.load(join(fixtures, 'dictionary-learning/unset-threshold'))).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringMatching(/ae\.pt: threshold is '-1', expected a number of at least 0/),
    })
  })

  it('several seeds: says which there are', async () => {
    await expect(Sae.load(join(fixtures, 'sparsify/seeds'))).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringMatching(/found no SAE, but 2 in folders below it: seed0, seed1/),
      hint: expect.stringContaining('seed0'),
    })
  })

  it('nothing known: lists what was tried', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'notes.txt'), 'x')
    await expect(Sae.load(folder)).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringMatching(
        /no SAE of a known format \(SAELens: no cfg\.json and sae_weights\.safetensors; sparsify: .*crosscoder/,
      ),
    })
    await expect(Sae.load(join(folder, 'nowhere'))).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' })
  })

  it('a dictionary without its config, where the class is in doubt', async () => {
    const folder = await temporaryFolder()
    await cp(join(fixtures, 'dictionary-learning/TopK/ae.pt'), join(folder, 'ae.pt'))
    await expect(Sae.load(folder)).rejects.toMatchObject({
      message: expect.stringMatching(/AutoEncoderTopK and BatchTopKSAE alike/),
    })
    // Not in doubt, and a file by its name.
    await cp(join(fixtures, 'dictionary-learning/Gated/ae.pt'), join(folder, 'other.pt'))
    expect((await Sae.load(join(folder, 'other.pt'))).architecture).toBe('GatedAutoEncoder')
  })

  it.each([
    ['saelens/topk', 'cfg.json', /"topk"/, '"temporal"', /cfg\.json: architecture is 'temporal'/],
    ['saelens/topk', 'cfg.json', /"k": 4/, '"k": 33', /k is '33', expected a whole number from 1 to the 32/],
    ['saelens/topk', 'cfg.json', /"k": 4/, '"k": 2.5', /k is '2\.5'/],
    [
      'saelens/topk',
      'cfg.json',
      /"d_sae": 32/,
      '"d_sae": 31',
      /W_dec' has shape \[32, 12\], expected \[31, 12\]/,
    ],
    ['saelens/topk', 'cfg.json', /"d_in": 12/, '"d_in": "12"', /cfg\.json: d_in/],
    [
      'saelens/topk',
      'cfg.json',
      /"normalize_activations": "none"/,
      '"normalize_activations": "x"',
      /normalize_activ/,
    ],
    [
      'saelens/topk',
      'cfg.json',
      /"reshape_activations": "none"/,
      '"reshape_activations": "x"',
      /reshape_activ/,
    ],
    ['saelens/jumprelu', 'cfg.json', /"jumprelu"/, '"gated"', /no tensor 'b_gate'; found W_enc/],
    ['sparsify/groupmax', 'cfg.json', /"k": 4/, '"k": 5', /k is '5', expected a divisor of the 32 latents/],
    [
      'dictionary-learning/TopK',
      'config.json',
      /AutoEncoderTopK/,
      'IdentityDict',
      /dict_class is 'IdentityDict'/,
    ],
  ])('%s with %s %s → %s', async (name, file, from, to, message) => {
    const folder = await changed(name, file, (text) => {
      expect(text).toMatch(from)
      return text.replace(from, to)
    })
    await expect(Sae.load(folder)).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_(FORMAT|NOT_FOUND)$/),
      message: expect.stringMatching(message),
    })
  })

  it('every file cut short', async () => {
    for (const [name, file] of [
      ['saelens/topk', 'sae_weights.safetensors'],
      ['openai/topk', 'autoencoder.pt'],
      ['gemma-scope/compressed', 'params.npz'],
    ] as const) {
      const folder = join(await temporaryFolder(), 'copy')
      await mkdir(folder)
      const bytes = await readFile(join(fixtures, name, file))
      if (file.endsWith('safetensors'))
        await symlink(join(fixtures, name, 'cfg.json'), join(folder, 'cfg.json'))
      for (const size of [0, 1, 40, bytes.length >> 1, bytes.length - 1]) {
        await writeFile(join(folder, file), bytes.subarray(0, size))
        await expect(Sae.load(folder), `${file} of ${size} bytes`).rejects.toMatchObject({
          code: 'ERR_FORMAT',
          message: expect.stringContaining(file),
        })
      }
    }
  })
})
