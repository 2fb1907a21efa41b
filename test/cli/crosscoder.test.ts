/** `diff` on a crosscoder; norms are computed here from the tensors of the fixture. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parquetReadObjects } from 'hyparquet'
import { beforeEach, expect, it } from 'vitest'
import { Random } from '../../lib/core/random.js'
import { SafetensorsFile, writeSafetensors } from '../../lib/io/safetensors.js'
import { temporaryFolder } from '../io/temporary-folder.js'
import { cli } from './run.js'

const path = join(import.meta.dirname, '../fixtures/sae/crosscoder/batchtopk')
const [layers, latents, d] = [2, 32, 6]

let folder: string
const at = (name: string): string => join(folder, name)
beforeEach(async () => {
  folder = await temporaryFolder()
})

async function readTable(file: string): Promise<Record<string, number>[]> {
  const bytes = await readFile(file)
  return (await parquetReadObjects({
    file: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength),
  })) as Record<string, number>[]
}

/** ‖decoder of the last layer‖ / Σ of all norms. */
async function relativeNorms(): Promise<number[]> {
  const weights = await SafetensorsFile.open(join(path, 'model.safetensors')).f32('decoder.weight', {
    shape: [layers, latents, d],
  })
  const norm = (layer: number, latent: number): number => {
    const begin = (layer * latents + latent) * d
    return Math.hypot(...weights.subarray(begin, begin + d))
  }
  return Array.from({ length: latents }, (_, latent) => norm(1, latent) / (norm(0, latent) + norm(1, latent)))
}

it('without activations ranks by the relative norm of decoder vectors', async () => {
  const relative = await relativeNorms()
  const { code, stdout } = await cli('diff', '--sae', path, '-o', at('x.parquet'), '--top', '5', '--json')
  expect(code).toBe(0)
  const order = Array.from({ length: latents }, (_, latent) => latent).toSorted(
    (a, b) => relative[b]! - relative[a]!,
  )
  const table = await readTable(at('x.parquet'))
  expect(Object.keys(table[0]!)).toEqual(['latent', 'rank', 'relative_decoder_norm'])
  expect(table.map((row) => row['rank'])).toEqual([1, 2, 3, 4, 5, 28, 29, 30, 31, 32])
  expect(table.map((row) => row['latent'])).toEqual([...order.slice(0, 5), ...order.slice(-5)])
  for (const row of table) expect(row['relative_decoder_norm']).toBeCloseTo(relative[row['latent']!]!, 6)
  const said = JSON.parse(stdout) as { rows: number; decoderNorms: Record<string, { index: number }[]> }
  expect(said.rows).toBe(10)
  expect(said.decoderNorms['top']!.map(({ index }) => index)).toEqual(order.slice(0, 10))
  expect(said.decoderNorms['bottom']!.map(({ index }) => index)).toEqual(order.toReversed().slice(0, 10))
})

it('with activations adds the column to the table', async () => {
  const relative = await relativeNorms()
  const rows = 40
  for (const [seed, name] of ['base', 'tuned'].entries()) {
    const random = new Random(seed)
    await writeSafetensors(at(`${name}.safetensors`), [
      {
        name: 'activations',
        dtype: 'F32',
        shape: [rows, layers * d],
        data: Float32Array.from({ length: rows * layers * d }, () => random.gaussian()),
      },
    ])
  }
  const inputs = ['--base', at('base.safetensors'), '--tuned', at('tuned.safetensors')]
  const { code, stdout } = await cli('diff', '--sae', path, ...inputs, '-o', at('d.parquet'), '--top', '0')
  expect(code).toBe(0)
  expect(stdout).toMatch(/largest increase[\s\S]+most of the last model[\s\S]+least of the last model/)
  const table = await readTable(at('d.parquet'))
  expect(table.length).toBe(latents)
  expect(Object.keys(table[0]!).slice(-2)).toEqual(['q_value', 'relative_decoder_norm'])
  for (const row of table) expect(row['relative_decoder_norm']).toBeCloseTo(relative[row['latent']!]!, 6)
})

it('of another SAE activations are needed', async () => {
  const topk = join(import.meta.dirname, '../fixtures/sae/saelens/topk')
  for (const args of [[], ['--sae', topk]]) {
    const { code, stderr } = await cli('diff', ...args, '-o', at('x.parquet'))
    expect(code).toBe(2)
    expect(stderr).toMatch(
      /^error \[ERR_INVALID_ARGUMENT\] --base and --tuned are missing \(hint: .*crosscoder/,
    )
  }
  expect((await cli('diff', '--base', at('x'), '-o', at('x.parquet'))).stderr).toMatch(/--tuned is missing/)
})
