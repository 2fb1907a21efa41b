import { open, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { Sae } from '../../lib/sae/sae.js'
import { temporaryFolder } from '../io/temporary-folder.js'

/** A sparse file: gigabytes long, a few kilobytes on the disk. Says where the bytes of each tensor begin. */
async function sparseFile(
  path: string,
  tensors: Record<string, { dtype: 'BF16' | 'F32'; shape: readonly number[] }>,
): Promise<Record<string, number>> {
  const begins: Record<string, number> = {}
  const entries: Record<string, object> = {}
  let end = 0
  for (const [name, { dtype, shape }] of Object.entries(tensors)) {
    const begin = end
    end += shape.reduce((a, b) => a * b) * (dtype === 'BF16' ? 2 : 4)
    begins[name] = 512 + begin
    entries[name] = { dtype, shape, data_offsets: [begin, end] }
  }
  const header = Buffer.from(JSON.stringify(entries).padEnd(504))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  await writeFile(path, Buffer.concat([length, header]))
  await truncate(path, 512 + end)
  return begins
}

async function write(path: string, at: number, values: Uint16Array): Promise<void> {
  const file = await open(path, 'r+')
  await file.write(new Uint8Array(values.buffer), 0, undefined, at)
  await file.close()
}

/** Opens at once, and one decoder vector reads kilobytes. */
async function cheaply(folder: string, latent: number, expected: Float32Array): Promise<void> {
  const before = process.memoryUsage.rss()
  const started = performance.now()
  const sae = await Sae.load(folder)
  const opened = performance.now()
  expect(sae.decoderVector(latent)).toEqual(expected)
  // Others, none of them read before; a busy machine may hold up one of them.
  const times = [3, 1000, 50_000, 123_456, 700_000, 1_000_000].map((other) => {
    const asked = performance.now()
    const vector = sae.decoderVector(other)
    const milliseconds = performance.now() - asked
    expect(vector).toEqual(new Float32Array(expected.length))
    return milliseconds
  })
  expect(opened - started).toBeLessThan(1000)
  expect(Math.min(...times)).toBeLessThan(10)
  expect(process.memoryUsage.rss() - before).toBeLessThan(50e6)
}

const oneAndAHalf = 0x3fc0 // bf16

it('a folder of 17 GB opens at once, and a decoder vector reads kilobytes', async () => {
  const [dModel, latents] = [4096, 1 << 20]
  const folder = await temporaryFolder()
  const path = join(folder, 'sae_weights.safetensors')
  const begins = await sparseFile(path, {
    W_enc: { dtype: 'BF16', shape: [dModel, latents] },
    W_dec: { dtype: 'BF16', shape: [latents, dModel] },
    b_enc: { dtype: 'F32', shape: [latents] },
    b_dec: { dtype: 'F32', shape: [dModel] },
  })
  expect((await stat(path)).size).toBeGreaterThan(17e9)
  const latent = 987_654
  await write(path, begins['W_dec']! + latent * dModel * 2, new Uint16Array(dModel).fill(oneAndAHalf))
  const vector = new Float32Array(dModel).fill(1.5)
  // Scaled by decoder norms, it is opened without reading them.
  for (const rescale of [false, true]) {
    const config = { architecture: 'topk', d_in: dModel, d_sae: latents, k: 64 }
    await writeFile(
      join(folder, 'cfg.json'),
      JSON.stringify({ ...config, rescale_acts_by_decoder_norm: rescale }),
    )
    await cheaply(folder, latent, vector)
  }
})

it.each([
  ['a crosscoder', {}],
  // Latents are chosen by the norms of its decoder vectors.
  ['one of BatchTopK', { threshold: { dtype: 'F32', shape: [1] } }],
] as const)('so does %s, whose decoder lies layer by layer', async (_, more) => {
  const [layers, d, latents] = [2, 2048, 1 << 20]
  const folder = await temporaryFolder()
  const path = join(folder, 'model.safetensors')
  const begins = await sparseFile(path, {
    'encoder.weight': { dtype: 'BF16', shape: [layers, d, latents] },
    'decoder.weight': { dtype: 'BF16', shape: [layers, latents, d] },
    'encoder.bias': { dtype: 'F32', shape: [latents] },
    'decoder.bias': { dtype: 'F32', shape: [layers, d] },
    ...more,
  })
  expect((await stat(path)).size).toBeGreaterThan(17e9)
  const latent = 987_654
  // Of the second layer only.
  await write(
    path,
    begins['decoder.weight']! + (latents + latent) * d * 2,
    new Uint16Array(d).fill(oneAndAHalf),
  )
  await cheaply(folder, latent, new Float32Array(layers * d).fill(1.5, d))
})
