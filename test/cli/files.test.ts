import { cp, mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ActivationStoreWriter } from '../../lib/activations/writer.js'
import { SafetensorsFile, writeSafetensors } from '../../lib/io/safetensors.js'
import { Sae } from '../../lib/sae/sae.js'
import { temporaryFolder } from '../io/temporary-folder.js'
import { cli } from './run.js'

const fixtures = join(import.meta.dirname, '../fixtures/sae')

const inspect = async (path: string): Promise<unknown> =>
  JSON.parse((await cli('inspect', path, '--json')).stdout)

describe('convert', () => {
  it.each([
    ['openai/topk', 'OpenAI sparse_autoencoder', 'topk'],
    ['gemma-scope/compressed', 'Gemma Scope', 'jumprelu'],
    ['dictionary-learning/AutoEncoder', 'dictionary_learning', 'standard'],
    ['saelens/batchtopk-checkpoint', 'SAELens', 'jumprelu'],
    ['saelens/skip-transcoder', 'SAELens', 'skip_transcoder'],
  ])('%s: the same codes and reconstructions', async (name, from, architecture) => {
    const folder = await temporaryFolder()
    const out = join(folder, 'converted')
    const { code, stdout } = await cli('convert', join(fixtures, name), out, '--json')
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ from, architecture, latents: 32, dModel: 12 })
    expect((await readdir(out)).toSorted()).toEqual(['cfg.json', 'sae_weights.safetensors'])
    expect(await readdir(folder)).toEqual(['converted'])
    const [before, after] = [await Sae.load(join(fixtures, name)), await Sae.load(out)]
    const x = Float32Array.from({ length: 5 * 12 }, (_, i) => Math.sin(i * 1.7))
    const [first, second] = [await before.encode(x), await after.encode(x)]
    expect(second.indices).toEqual(first.indices)
    const [wanted, found] = [
      await before.decode(first, { input: x }),
      await after.decode(second, { input: x }),
    ]
    for (const [i, value] of wanted.entries()) expect(found[i]).toBeCloseTo(value, 4)
  })

  it('leaves nothing where it fails', async () => {
    const folder = await temporaryFolder()
    const refused = await cli('convert', join(fixtures, 'crosscoder/relu'), join(folder, 'out'))
    expect(refused.code).toBe(1)
    expect(refused.stderr).toMatch(/^error \[ERR_INVALID_ARGUMENT\] SAELens has no word for crosscoders/)
    await cp(join(fixtures, 'saelens/topk'), join(folder, 'sae'), { recursive: true })
    const weights = await readFile(join(folder, 'sae/sae_weights.safetensors'))
    weights.writeFloatLE(Number.NaN, weights.length - 4 * 700)
    await writeFile(join(folder, 'sae/sae_weights.safetensors'), weights)
    const broken = await cli('convert', join(folder, 'sae'), join(folder, 'out'))
    expect(broken.code).toBe(1)
    expect(broken.stderr).toMatch(/ERR_NON_FINITE.*W_enc: found NaN/)
    expect(await readdir(folder)).toEqual(['sae'])
  })

  it('does not write over anything', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'mine'), 'x')
    const { code, stderr } = await cli('convert', join(fixtures, 'saelens/topk'), folder)
    expect(code).toBe(1)
    expect(stderr).toMatch(/holds 1 files, expected a new folder/)
    await mkdir(join(folder, 'empty'))
    expect((await cli('convert', join(fixtures, 'saelens/topk'), join(folder, 'empty'))).code).toBe(0)
  })
})

describe('inspect', () => {
  it('an SAE', async () => {
    const { code, stdout } = await cli('inspect', join(fixtures, 'saelens/jumprelu'), '--json')
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({
      kind: 'sae',
      format: 'SAELens',
      architecture: 'jumprelu',
      dModel: 12,
      latents: 32,
      dtype: 'F32',
      rule: 'threshold',
      k: null,
      model: 'gpt2-small',
      hook: 'blocks.3.hook_resid_post',
      dead: 0,
      problems: [],
    })
    const text = await cli('inspect', join(fixtures, 'sparsify/layers.5'))
    expect(text.stdout).toMatch(/^rule +topk$/m)
    expect(text.stdout).toMatch(/^k +4$/m)
    expect(text.stdout).toMatch(/^sound +yes$/m)
  })

  it('says what is wrong, and fails', async () => {
    const folder = await temporaryFolder()
    await cp(join(fixtures, 'openai/topk/autoencoder.pt'), join(folder, 'a.pt'))
    const bytes = await readFile(join(folder, 'a.pt'))
    // A bit of a weight: only the checksum can tell.
    bytes[bytes.indexOf('data/5') + 200]! ^= 1
    await writeFile(join(folder, 'a.pt'), bytes)
    const { code, stdout, stderr } = await cli('inspect', join(folder, 'a.pt'))
    expect(code).toBe(1)
    expect(stdout).toMatch(/^sound +no$/m)
    expect(stderr).toMatch(/not sound: .*does not have the checksum/)
  })

  it('dead latents and infinities', async () => {
    const folder = await temporaryFolder()
    await cp(join(fixtures, 'saelens/topk/cfg.json'), join(folder, 'cfg.json'))
    const wDec = new Float32Array(32 * 12).fill(1)
    wDec.fill(0, 12, 24)
    const bDec = new Float32Array(12)
    bDec[3] = Number.POSITIVE_INFINITY
    await writeSafetensors(join(folder, 'sae_weights.safetensors'), [
      { name: 'W_enc', dtype: 'F32', shape: [12, 32], data: new Float32Array(32 * 12).fill(1) },
      { name: 'W_dec', dtype: 'F32', shape: [32, 12], data: wDec },
      { name: 'b_enc', dtype: 'F32', shape: [32], data: new Float32Array(32) },
      { name: 'b_dec', dtype: 'F32', shape: [12], data: bDec },
    ])
    const { code, stdout } = await cli('inspect', folder, '--json')
    expect(code).toBe(1)
    expect(JSON.parse(stdout)).toMatchObject({ dead: 1, problems: ['b_dec: Infinity at 3'] })
  })

  it('activations, codes, other tensors', async () => {
    const folder = await temporaryFolder()
    const writer = await ActivationStoreWriter.create(join(folder, 'store'), {
      model: 'm',
      hook: { point: 'resid_post', layer: 1 },
      dModel: 4,
    })
    await writer.append({
      rows: 3,
      dModel: 4,
      sequence: Uint32Array.of(0, 0, 1),
      position: Uint32Array.of(0, 1, 0),
      tokens: Int32Array.of(1, 2, 3),
      values: new Float32Array(12).fill(1),
    })
    await writer.close()
    expect(JSON.parse((await cli('inspect', join(folder, 'store'), '--json')).stdout)).toMatchObject({
      kind: 'activations',
      rows: 3,
      dModel: 4,
      hook: 'blocks.1.hook_resid_post',
      problems: [],
    })
    const codes = join(folder, 'codes.safetensors')
    await writeSafetensors(codes, [
      { name: 'indices', dtype: 'U32', shape: [3], data: Uint32Array.of(4, 1, 9) },
      { name: 'values', dtype: 'F32', shape: [3], data: Float32Array.of(1, 2, 3) },
      { name: 'offsets', dtype: 'U64', shape: [3], data: BigUint64Array.of(0n, 2n, 3n) },
    ])
    expect(JSON.parse((await cli('inspect', codes, '--json')).stdout)).toEqual({
      kind: 'codes',
      rows: 2,
      k: null,
      pairs: 3,
      largestLatent: 9,
      problems: [],
    })
    const other = await cli('inspect', join(fixtures, 'saelens/topk/expected.safetensors'), '--json')
    expect(JSON.parse(other.stdout)).toMatchObject({
      kind: 'tensors',
      format: 'safetensors',
      tensors: [{ name: 'inputs', dtype: 'F32', shape: [9, 12] }, {}, {}],
    })
    expect((await cli('inspect', join(folder, 'nowhere'))).stderr).toMatch(/ERR_NOT_FOUND/)
  })

  it('activations of other programs: shards without an index, a tensor of any name', async () => {
    const folder = await temporaryFolder()
    const values = new Float32Array(8).fill(1)
    const write = (name: string, data: Float32Array): Promise<unknown> =>
      writeSafetensors(join(folder, name), [{ name: 'resid', dtype: 'F32', shape: [2, 4], data }])
    for (const name of ['part-2.safetensors', 'part-10.safetensors']) await write(name, values)
    expect(await inspect(folder)).toMatchObject({ kind: 'activations', rows: 4, shards: 2, problems: [] })
    const part = join(folder, 'part-2.safetensors')
    expect(await inspect(part)).toMatchObject({ kind: 'activations', rows: 2, dModel: 4 })
    await write('part-10.safetensors', values.with(5, Number.NaN))
    const { problems } = (await inspect(folder)) as { problems: string[] }
    expect(problems).toHaveLength(1)
    expect(problems[0]).toMatch(/part-10.*row 1, component 1 is nan/)
    expect((await cli('inspect', await temporaryFolder())).stderr).toMatch(
      /no SAE of a known format .*; nor activations: /,
    )
  })

  it('codes that were damaged', async () => {
    const folder = await temporaryFolder()
    const out = join(folder, 'codes.safetensors')
    const activations = join(folder, 'x.safetensors')
    await writeSafetensors(activations, [
      { name: 'x', dtype: 'F32', shape: [3, 12], data: new Float32Array(36).map((_, i) => Math.sin(i)) },
    ])
    const sae = join(fixtures, 'saelens/topk')
    expect((await cli('encode', '--sae', sae, '--activations', activations, '-o', out)).code).toBe(0)
    expect((await cli('inspect', out)).code).toBe(0)
    const bytes = await readFile(out)
    bytes[SafetensorsFile.open(out).require('values').begin]! ^= 1
    await writeFile(out, bytes)
    const { code, stdout } = await cli('inspect', out, '--json')
    expect(code).toBe(1)
    expect(JSON.parse(stdout).problems).toEqual(['its SHA-256 is not the one that it was written with'])
  })
})
