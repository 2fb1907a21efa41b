import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ActivationStore } from '../../lib/activations/store.js'
import { diffLatents } from '../../lib/diffing/diff.js'
import { LatentStats } from '../../lib/diffing/latent-stats.js'
import { SafetensorsFile, writeSafetensors } from '../../lib/io/safetensors.js'
import { SparseCodes } from '../../lib/sae/codes.js'
import { Sae } from '../../lib/sae/sae.js'
import { wave, waveWeights } from '../support/devices.js'
import { temporaryFolder } from './temporary-folder.js'

// Another program shortens a file while it is mapped: the process lives, and gets no number.
const lost = (path: string) => ({ code: 'ERR_IO', message: expect.stringContaining(path) as string })
const [dModel, latents, k] = [64, 2048, 8]

describe('a file that is shortened while it is mapped', () => {
  it('an SAE', async () => {
    const folder = await temporaryFolder()
    const weights = waveWeights(dModel, latents)
    await writeFile(
      join(folder, 'cfg.json'),
      JSON.stringify({ activation: 'topk', num_latents: latents, d_in: dModel, k }),
    )
    const path = join(folder, 'sae.safetensors')
    await writeSafetensors(path, [
      { name: 'encoder.bias', dtype: 'F32', shape: [latents], data: weights.bEnc },
      { name: 'b_dec', dtype: 'F32', shape: [dModel], data: weights.bDec },
      { name: 'encoder.weight', dtype: 'F32', shape: [latents, dModel], data: weights.wEnc },
      { name: 'W_dec', dtype: 'F32', shape: [latents, dModel], data: weights.wDec },
    ])
    const values = wave(64 * dModel, 0.61)
    const used = await Sae.load(folder)
    const fresh = await Sae.load(folder)
    const expected = await used.encode(values)
    await truncate(path, 32_768)
    for (let round = 0; round < 2; round++)
      for (const sae of [used, fresh]) {
        await expect(sae.encode(values)).rejects.toMatchObject(lost(path))
        await expect(sae.decode(expected)).rejects.toMatchObject(lost(path))
        expect(() => sae.decoderVector(latents - 1)).toThrow(expect.objectContaining(lost(path)))
        const stats = new LatentStats(latents)
        await expect(stats.addActivations(sae, { values })).rejects.toMatchObject(lost(path))
        expect(stats.rows).toBe(0)
      }
    // Others go on as if nothing were.
    expect((await Sae.fromWeights({ ...weights, k }).encode(values)).rows).toBe(64)
  })

  it('an SAE of which a copy was made goes on, one of which none can be made does not', async () => {
    const folder = await temporaryFolder()
    await Sae.fromWeights({ ...waveWeights(dModel, latents), k }).save(folder)
    const path = join(folder, 'sae_weights.safetensors')
    const values = wave(64 * dModel, 0.61)
    const copied = await Sae.load(folder) // W_enc lies [dModel, latents] there, and is turned
    const fresh = await Sae.load(folder)
    const expected = await copied.encode(values)
    await truncate(path, 32_768)
    for (let round = 0; round < 2; round++) {
      expect((await copied.encode(values)).values).toEqual(expected.values)
      await expect(fresh.encode(values)).rejects.toMatchObject(lost(path))
    }
  })

  it('activations', async () => {
    const path = join(await temporaryFolder(), 'rows.safetensors')
    const rows = 1000
    const data = wave(rows * dModel, 0.37)
    await writeSafetensors(path, [{ name: 'activations', dtype: 'F32', shape: [rows, dModel], data }])
    const store = await ActivationStore.open(path)
    const batches = store.batches({ batchSize: 100 })
    expect((await batches.next()).value?.values).toEqual(data.subarray(0, 100 * dModel))
    await truncate(path, 100_000)
    const read = async (): Promise<void> => {
      for await (const batch of batches) expect(batch.values).not.toContain(0)
    }
    await expect(read()).rejects.toMatchObject(lost(path))
    await expect(store.read([rows - 1])).rejects.toMatchObject(lost(path))
  })

  it('statistics', async () => {
    const folder = await temporaryFolder()
    const path = join(folder, 'stats.safetensors')
    const rows = 4000
    const stats = new LatentStats(latents, { perGroup: true })
    const codes = new SparseCodes(latents, {
      indices: Uint32Array.from({ length: rows * k }, (_, i) => (i * 7) % latents),
      values: wave(rows * k, 0.23).map((value) => value + 2),
      offsets: Uint32Array.from({ length: rows + 1 }, (_, i) => i * k),
    })
    await stats.add(codes, { groups: Uint32Array.from({ length: rows }, (_, i) => i >> 3) })
    await stats.save(path)
    const loaded = await LatentStats.load(path)
    expect((await diffLatents(loaded, stats)).alive).toBeGreaterThan(0)
    await truncate(path, 8192)
    await expect(diffLatents(loaded, stats)).rejects.toMatchObject(lost(path))
  })

  it('a tensor that JavaScript reads itself: the next call tells', async () => {
    const path = join(await temporaryFolder(), 'a.safetensors')
    await writeSafetensors(path, [{ name: 'a', dtype: 'F32', shape: [10_000], data: wave(10_000, 1) }])
    const file = SafetensorsFile.open(path)
    const view = file.view('a')
    await truncate(path, 4096)
    expect(view.at(-1)).toBe(0)
    expect(() => file.view('a')).toThrow(expect.objectContaining(lost(path)))
    expect(file.view('a').length).toBe(10_000)
  })
})
