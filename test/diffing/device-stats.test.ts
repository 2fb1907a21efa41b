import { describe, expect, it } from 'vitest'
import { DeviceTensor } from '../../lib/core/device-tensor.js'
import { DeviceStats } from '../../lib/diffing/device-stats.js'
import { diffLatents } from '../../lib/diffing/diff.js'
import { LatentStats } from '../../lib/diffing/latent-stats.js'
import { SparseCodes } from '../../lib/sae/codes.js'
import { DeviceCodes } from '../../lib/sae/device-codes.js'
import { Sae } from '../../lib/sae/sae.js'
import { devices, wave, waveWeights } from '../support/devices.js'

const dModel = 8
const latents = 64
const refused = { code: 'ERR_INVALID_ARGUMENT' }

const weights = { ...waveWeights(dModel, latents), k: 5 }

function expectSame(found: LatentStats, wanted: LatentStats): void {
  expect(found.rows).toBe(wanted.rows)
  expect(found.sum).toEqual(wanted.sum)
  expect(found.sumOfSquares).toEqual(wanted.sumOfSquares)
  expect(found.activeCount).toEqual(wanted.activeCount)
  expect(found.max).toEqual(wanted.max)
}

describe.each(devices)('statistics on %s', (device) => {
  const sae = Sae.fromWeights(weights, { device })
  const host = Sae.fromWeights(weights)
  const batches = [0.77, 1.31, 0.29].map((step) => wave(30 * dModel, step))

  it('are the bits of LatentStats over the same rows, of arrays, tensors and codes', async () => {
    const wanted = new LatentStats(latents)
    for (const values of batches) await wanted.addActivations(host, { values })

    const [first, second, third] = batches as [Float32Array, Float32Array, Float32Array]
    using tensor = await DeviceTensor.upload(second, [30, dModel], { device })
    const seen: number[] = []
    using stats = await DeviceStats.collect(sae, [first, tensor], {
      onProgress: ({ done }) => seen.push(done),
    })
    expect(seen).toEqual([30, 60])
    using codes = await sae.encode(third, { keepOnDevice: true })
    await stats.add(codes)
    expect(stats).toMatchObject({ rows: 90, latents, device: sae.device })
    expectSame(await stats.read(), wanted)
    // Reading leaves them as they are; what was read merges with the host's.
    expectSame(await LatentStats.merge([await stats.read()]), wanted)

    // Statistics with groups take codes and tensors of a device too.
    const groups = Uint32Array.from({ length: 30 }, (_, row) => row % 4)
    const [mine, theirs] = [0, 1].map(() => new LatentStats(latents, { perGroup: true, examples: 2 }))
    await mine!.add(codes, { groups })
    await mine!.addActivations(sae, { values: tensor, groups })
    await theirs!.addActivations(host, { values: third, groups })
    await theirs!.addActivations(host, { values: second, groups })
    expectSame(mine!, theirs!)
    expect(mine!.groupSums(7)).toEqual(theirs!.groupSums(7))
    expect(mine!.examples(7)).toEqual(theirs!.examples(7))
  })

  it('differ as diffLatents says', async () => {
    const [first, second] = batches as [Float32Array, Float32Array]
    using before = await DeviceStats.collect(sae, [first])
    using after = await DeviceStats.collect(sae, [second])
    const wanted = await diffLatents(await before.read(), await after.read(), { bootstrap: 0 })
    const { delta, effectSize } = await before.difference(after)
    expect(delta).toEqual(wanted.delta)
    expect(delta.some((value) => value > 0)).toBe(true)
    // Latents never active have none on either side.
    const apart = effectSize.filter((effect, latent) => {
      const one = wanted.effectSize[latent]!
      return Number.isNaN(one) !== Number.isNaN(effect) || Math.abs(one - effect) > 1e-12
    })
    expect(apart).toHaveLength(0)
    expect(effectSize.some((effect) => effect > 0.1)).toBe(true)
    expect((await before.difference(before)).delta).toEqual(new Float64Array(latents))
  })

  it('keep values far from 1 exactly', async () => {
    const codes = new SparseCodes(latents, {
      indices: Uint32Array.of(3, 3, 3, 9),
      values: Float32Array.of(1e30, 1e-30, 2, 1.5),
      offsets: Uint32Array.of(0, 1, 3, 4),
    })
    const wanted = new LatentStats(latents)
    await wanted.add(codes)
    using there = await DeviceCodes.upload(codes, { device })
    using stats = await DeviceStats.create(latents, { device })
    using ordinary = await DeviceStats.collect(sae, [batches[0]!])
    await stats.add(there)
    expectSame(await stats.read(), wanted)
    const diff = await diffLatents(await ordinary.read(), wanted, { bootstrap: 0 })
    expect((await ordinary.difference(stats)).delta).toEqual(diff.delta)
  })

  it('refuse what does not fit and change nothing then', async () => {
    using stats = await DeviceStats.create(latents, { device })
    using other = await DeviceStats.create(32, { device })
    await expect(other.addActivations(sae, batches[0]!)).rejects.toMatchObject({
      ...refused,
      message: 'statistics of 32 latents cannot take codes of 64',
    })
    const negative = new SparseCodes(latents, {
      indices: Uint32Array.of(3, 4),
      values: Float32Array.of(1, -1),
      offsets: Uint32Array.of(0, 2),
    })
    using codes = await DeviceCodes.upload(negative, { device })
    await expect(stats.add(codes)).rejects.toMatchObject(refused)
    expect(stats.rows).toBe(0)
    expectSame(await stats.read(), new LatentStats(latents))
    await expect(stats.difference(stats)).rejects.toThrow(/no rows/)
    await expect(stats.difference(other)).rejects.toMatchObject(refused)
    const bad = batches[0]!.map((value, i) => (i === 19 ? Infinity : value))
    await expect(stats.addActivations(sae, bad)).rejects.toMatchObject({ code: 'ERR_NON_FINITE' })
    const freed = await DeviceStats.create(latents, { device })
    freed.free()
    await expect(freed.read()).rejects.toThrow(/DeviceStats was freed/)
    expect(() => freed.rows).toThrowError(expect.objectContaining(refused))
    await expect(DeviceStats.collect(sae, [bad])).rejects.toMatchObject({ code: 'ERR_NON_FINITE' })
    await expect(
      stats.addActivations(sae, batches[0]!, { signal: AbortSignal.abort() }),
    ).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  })

  it('a mask needs an array', async () => {
    using values = await DeviceTensor.upload(batches[0]!, [30, dModel], { device })
    const stats = new LatentStats(latents)
    await expect(stats.addActivations(sae, { values, mask: new Uint8Array(30) })).rejects.toThrow(/mask/)
    await stats.addActivations(sae, { values })
    expect(stats.rows).toBe(30)
  })
})
