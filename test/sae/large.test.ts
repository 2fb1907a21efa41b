import { open, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { Sae } from '../../lib/sae/sae.js'
import { temporaryFolder } from '../io/temporary-folder.js'

/** A sparse file: 17 GB long, a few kilobytes on the disk. */
it('a folder of 17 GB opens at once, and a decoder vector reads kilobytes', async () => {
  const [dModel, latents] = [4096, 1 << 20]
  const matrix = dModel * latents * 2
  const [afterEnc, afterDec] = [matrix, 2 * matrix]
  const [afterBias, end] = [afterDec + latents * 4, afterDec + latents * 4 + dModel * 4]
  const header = Buffer.from(
    JSON.stringify({
      W_enc: { dtype: 'BF16', shape: [dModel, latents], data_offsets: [0, afterEnc] },
      W_dec: { dtype: 'BF16', shape: [latents, dModel], data_offsets: [afterEnc, afterDec] },
      b_enc: { dtype: 'F32', shape: [latents], data_offsets: [afterDec, afterBias] },
      b_dec: { dtype: 'F32', shape: [dModel], data_offsets: [afterBias, end] },
    }).padEnd(504),
  )
  const folder = await temporaryFolder()
  const path = join(folder, 'sae_weights.safetensors')
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  await writeFile(path, Buffer.concat([length, header]))
  await truncate(path, 512 + end)
  expect((await stat(path)).size).toBeGreaterThan(17e9)
  const latent = 987_654
  const row = new Uint16Array(dModel).fill(0x3fc0) // 1.5
  const file = await open(path, 'r+')
  await file.write(new Uint8Array(row.buffer), 0, undefined, 512 + afterEnc + latent * dModel * 2)
  await file.close()
  await writeFile(
    join(folder, 'cfg.json'),
    JSON.stringify({ architecture: 'topk', d_in: dModel, d_sae: latents, k: 64 }),
  )

  const before = process.memoryUsage.rss()
  const started = performance.now()
  const sae = await Sae.load(folder)
  const opened = performance.now()
  const vector = sae.decoderVector(latent)
  const read = performance.now()
  expect(vector).toEqual(new Float32Array(dModel).fill(1.5))
  expect(sae.decoderVector(3)).toEqual(new Float32Array(dModel))
  expect(opened - started).toBeLessThan(1000)
  expect(read - opened).toBeLessThan(10)
  expect(process.memoryUsage.rss() - before).toBeLessThan(50e6)
})
