import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { Random } from '../../lib/core/random.js'
import { diffLatents, latentSignatures, type LatentChange } from '../../lib/diffing/diff.js'
import { LatentStats } from '../../lib/diffing/latent-stats.js'
import { SafetensorsFile } from '../../lib/io/safetensors.js'
import { SparseCodes } from '../../lib/sae/codes.js'
import { Sae } from '../../lib/sae/sae.js'
import { temporaryFolder } from '../io/temporary-folder.js'

const dModel = 12
const latents = 24
const rows = 200

function normal(count: number, seed: number): Float32Array {
  const random = new Random(seed)
  return Float32Array.from({ length: count }, () => random.gaussian())
}

const directions = normal(latents * dModel, 1)
const sae = Sae.fromWeights({
  dModel,
  latents,
  k: 6,
  wEnc: directions,
  wDec: directions,
  bEnc: new Float32Array(latents),
  bDec: new Float32Array(dModel),
})
const groups = Uint32Array.from({ length: rows }, (_, row) => Math.floor(row / 10))

/** Activations of a model; `shift` moves them along the encoder vector of latent 5. */
function activations(seed: number, shift: number): Float32Array {
  const x = normal(rows * dModel, seed)
  for (let row = 0; row < rows; row++)
    for (let i = 0; i < dModel; i++) x[row * dModel + i]! += shift * directions[5 * dModel + i]!
  return x
}

const collect = (values: Float32Array, perGroup = true): Promise<LatentStats> =>
  LatentStats.collect(sae, { values, groups }, { perGroup, examples: 4 })

describe('statistics', () => {
  test('agree with the codes', async () => {
    const values = activations(2, 0)
    const stats = await collect(values)
    const codes = await sae.encode(values)
    const sum = new Float64Array(latents)
    const active = new Float64Array(latents)
    for (let row = 0; row < rows; row++) {
      const pairs = codes.row(row)
      for (const [i, latent] of pairs.indices.entries()) {
        sum[latent]! += pairs.values[i]!
        active[latent]! += 1
      }
    }
    expect(stats.rows).toBe(rows)
    expect(stats.sum).toEqual(sum)
    expect(stats.activeCount).toEqual(active)
    expect(stats.mean()[3]).toBe(sum[3]! / rows)
    const added = new LatentStats(latents, { perGroup: true, examples: 4 })
    await added.add(codes, { groups })
    expect(added.sum).toEqual(sum)
    expect(added.examples(3)).toEqual(stats.examples(3))
    const best = stats.examples(3)[0]!
    expect(best.value).toBe(stats.max[3])
    expect(codes.value(best.id, 3)).toBe(best.value)
    expect(best.group).toBe(groups[best.id])
    const perGroup = stats.groupSums(3)
    expect(perGroup.sums.reduce((a, b) => a + b, 0)).toBeCloseTo(sum[3]!, 8)
    expect(stats.groupRows().rows.every((count) => count === 10)).toBe(true)
  })

  test('batches, streams and merging give the same', async () => {
    const values = activations(3, 0)
    const whole = await collect(values)
    const half = (rows / 2) * dModel
    async function* stream() {
      yield { values: values.subarray(0, half), sequence: groups.subarray(0, rows / 2) }
      yield { values: values.subarray(half), sequence: groups.subarray(rows / 2) }
    }
    const streamed = await LatentStats.collect(sae, stream(), { perGroup: true, examples: 4 })
    expect(streamed.sum).toEqual(whole.sum)
    expect(streamed.examples(5)).toEqual(whole.examples(5))
    const ids = Float64Array.from({ length: rows / 2 }, (_, i) => rows / 2 + i)
    const first = new LatentStats(latents, { perGroup: true, examples: 4 })
    const second = new LatentStats(latents, { perGroup: true, examples: 4 })
    await first.addActivations(sae, {
      values: values.subarray(0, half),
      groups: groups.subarray(0, rows / 2),
    })
    await second.addActivations(sae, {
      values: values.subarray(half),
      groups: groups.subarray(rows / 2),
      ids,
    })
    const merged = await LatentStats.merge([first, second])
    expect(merged.rows).toBe(rows)
    expect(first.rows).toBe(rows / 2)
    expect(merged.examples(5)).toEqual(whole.examples(5))
    expect(merged.sum).toEqual(whole.sum)
    expect(merged.sumOfSquares).toEqual(whole.sumOfSquares)
    for (let latent = 0; latent < latents; latent++)
      expect(merged.groupSums(latent)).toEqual(whole.groupSums(latent))
  })

  test('are saved as they were, though they go on; more of them than are written at a time', async () => {
    const [many, each] = [400_000, 64]
    const codesOf = (from: number): SparseCodes =>
      new SparseCodes(many, {
        indices: Uint32Array.from({ length: many }, (_, i) => i),
        values: Float32Array.from({ length: many }, (_, i) => from + (i % 1000) / 8 + 1 / (i + 1)),
        offsets: Uint32Array.from({ length: many / each + 1 }, (_, row) => row * each),
      })
    const about = (group: number) => ({ groups: new Uint32Array(many / each).fill(group) })
    const stats = new LatentStats(many, { perGroup: true })
    for (const group of [0, 1]) await stats.add(codesOf(group + 1), about(group))
    const wanted = [0, 123_456, many - 1].map((latent) => stats.groupSums(latent))
    const sum = stats.sum
    const file = join(await temporaryFolder(), 'stats.safetensors')
    const { written } = await stats.beginSave(file)
    for (const group of [2, 1]) await stats.add(codesOf(group + 1), about(group))
    expect(stats.groupSums(5).groups.length).toBe(3)
    await written
    const loaded = await LatentStats.load(file)
    expect(loaded.sum).toEqual(sum)
    expect([0, 123_456, many - 1].map((latent) => loaded.groupSums(latent))).toEqual(wanted)
    expect(SafetensorsFile.open(file).view('sum')).toEqual(sum)
    // What was loaded saves to the same bytes.
    const again = join(await temporaryFolder(), 'stats.safetensors')
    await loaded.save(again)
    expect(readFileSync(again).equals(readFileSync(file))).toBe(true)
  })

  test('distinct groups keep one row a document', async () => {
    const stats = await LatentStats.collect(
      sae,
      { values: activations(4, 1), groups },
      { examples: 20, distinctGroups: true },
    )
    const seen = stats.examples(5).map(({ group }) => group)
    expect(seen.length).toBe(20)
    expect(new Set(seen).size).toBe(20)
  })

  test('refuse what does not fit', async () => {
    await expect(
      LatentStats.collect(sae, { values: activations(1, 0) }, { perGroup: true }),
    ).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    await expect(
      LatentStats.collect(sae, { values: activations(1, 0), groups: groups.subarray(1) }),
    ).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    const bad = activations(1, 0)
    bad[17] = Number.NaN
    await expect(LatentStats.collect(sae, { values: bad })).rejects.toMatchObject({ code: 'ERR_NON_FINITE' })
    await expect(
      new LatentStats(latents + 1).addActivations(sae, { values: activations(1, 0) }),
    ).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    expect(() => new LatentStats(latents, { examples: 5000 })).toThrow(/examples/)
    await expect(LatentStats.merge([new LatentStats(3), new LatentStats(4)])).rejects.toThrow(/options/)
    await expect(LatentStats.merge([])).rejects.toThrow(/found none/)
    await expect(
      LatentStats.collect(sae, { values: activations(1, 0), mask: new Uint8Array(3) }),
    ).rejects.toThrow(/mask: found 3 values, expected 200/)
    // Two calls at once on one object: the second is refused, nothing is torn.
    const stats = new LatentStats(latents)
    const large = new Float32Array(500 * rows * dModel).fill(1)
    const small = new Float32Array(dModel).fill(1)
    const [first, second] = await Promise.allSettled([
      stats.addActivations(sae, { values: large }),
      stats.addActivations(sae, { values: small }),
    ])
    expect(first.status).toBe('fulfilled')
    expect(second).toMatchObject({ status: 'rejected', reason: { code: 'ERR_INVALID_ARGUMENT' } })
    expect(stats.rows).toBe(500 * rows)
  })
})

describe('differences', () => {
  test('twenty planted among 131 072 latents are the top twenty, and no others are found', async () => {
    const wide = 2 ** 17
    const [codesARow, rowsAPrompt, promptCount] = [64, 50, 44]
    const plantedLatents = Array.from({ length: 20 }, (_, i) => 1000 + 6421 * i)
    const isPlanted = new Set(plantedLatents)
    // A planted latent is active in 3 of 10 rows with values of mean 1 and standard deviation 0.2, so over all rows its
    // standard deviation is sqrt(0.3 · 1.04 − 0.09) = 0.471; after, its mean is half of that higher.
    const raised = 0.3 * 1 + 0.5 * 0.471
    const statsOf = async (seed: number, mean: number): Promise<LatentStats> => {
      const random = new Random(seed)
      const stats = new LatentStats(wide, { perGroup: true })
      for (let prompt = 0; prompt < promptCount; prompt++) {
        const indices: number[] = []
        const found: number[] = []
        const offsets = [0]
        for (let row = 0; row < rowsAPrompt; row++) {
          const chosen = new Set<number>()
          while (chosen.size < codesARow) {
            const latent = random.integer(wide)
            if (!isPlanted.has(latent)) chosen.add(latent)
          }
          for (const latent of plantedLatents) if (random.chance(0.3)) chosen.add(latent)
          for (const latent of chosen) {
            indices.push(latent)
            found.push(Math.max(0.01, (isPlanted.has(latent) ? mean / 0.3 : 1) + 0.2 * random.gaussian()))
          }
          offsets.push(indices.length)
        }
        const codes = new SparseCodes(wide, {
          indices: Uint32Array.from(indices),
          values: Float32Array.from(found),
          offsets: Uint32Array.from(offsets),
        })
        await stats.add(codes, { groups: new Uint32Array(rowsAPrompt).fill(prompt) })
      }
      return stats
    }
    const before = await statsOf(1, 0.3)
    const after = await statsOf(2, raised)
    for (const how of ['paired', 'welch'] as const) {
      const diff = await diffLatents(before, after, { bootstrap: 200, test: how })
      expect(diff.alive).toBeGreaterThan(wide / 2)
      expect(
        diff
          .top(20)
          .map(({ index }) => index)
          .toSorted((a, b) => a - b),
      ).toEqual(plantedLatents)
      for (const latent of diff.top(20)) {
        expect(latent.qValue).toBeLessThan(0.05)
        expect(latent.low).toBeGreaterThan(0)
      }
      // Among all latents found at q < 0.05, the share of false ones is to be 0.05 at most.
      const falseOnes = diff.qValue.reduce(
        (count, q, latent) => count + (q < 0.05 && !isPlanted.has(latent) ? 1 : 0),
        0,
      )
      expect(falseOnes).toBeLessThanOrEqual(1)
    }
  }, 60_000)

  test('signatures are the changes of chosen latents, model by model', async () => {
    const before = await collect(activations(6, 0))
    const models = [await collect(activations(7, 1)), await collect(activations(8, 0))]
    const signatures = latentSignatures(before, models, [5, 2])
    expect(signatures.length).toBe(2)
    for (const [m, stats] of models.entries())
      for (const [i, latent] of [5, 2].entries())
        expect(signatures[m]![i]).toBeCloseTo((stats.sum[latent]! - before.sum[latent]!) / rows, 12)
    expect(signatures[0]![0]!).toBeGreaterThan(signatures[1]![0]!)
    expect(() => latentSignatures(before, models, [latents])).toThrow(/latent 24: the SAE has 24/)
  })

  test('find the latent that moved, with interval and q-value', async () => {
    const before = await collect(activations(6, 0))
    const one = await collect(activations(7, 1))
    const two = await collect(activations(8, 1))
    const diff = await diffLatents(before, [one, two], { bootstrap: 500, seed: 3 })
    expect(diff.groups).toBe(20)
    const [top] = diff.top(1) as [LatentChange]
    expect(top.index).toBe(5)
    expect(top.rank).toBe(1)
    expect(top.delta).toBeCloseTo((one.mean()[5]! + two.mean()[5]!) / 2 - before.mean()[5]!, 10)
    expect(top.meanAfter - top.meanBefore).toBeCloseTo(top.delta, 10)
    expect(top.low).toBeGreaterThan(0)
    expect(top.low).toBeLessThan(top.delta)
    expect(top.high).toBeGreaterThan(top.delta)
    expect(top.qValue).toBeLessThan(1e-6)
    expect(top.effectSize).toBeGreaterThan(1)
    expect(diff.rankOf(5)).toBe(1)
    expect(diff.get(5)).toEqual(top)
    expect(diff.bottom(1)[0]!.delta).toBe(Math.min(...diff.delta))
    expect(diff.top(latents).map(({ index }) => index)).toEqual(
      diff
        .bottom(latents)
        .map(({ index }) => index)
        .toReversed(),
    )
    expect(await diffLatents(before, [one, two], { bootstrap: 500, seed: 3 })).toEqual(diff)
    expect((await diffLatents(before, [one, two], { bootstrap: 500, seed: 4 })).low).not.toEqual(diff.low)
  })

  test('without change nothing is found', async () => {
    const diff = await diffLatents(await collect(activations(9, 0)), await collect(activations(10, 0)))
    expect(diff.qValue.filter((q) => q < 0.01).length).toBe(0)
    const same = await collect(activations(9, 0))
    const none = await diffLatents(same, [same])
    expect(none.delta.every((delta) => delta === 0)).toBe(true)
    expect([...none.descending]).toEqual(Array.from({ length: latents }, (_, i) => i))
  })

  test('without groups there is no interval', async () => {
    const diff = await diffLatents(
      await collect(activations(1, 0), false),
      await collect(activations(2, 1), false),
    )
    expect(diff.top(1)[0]).toMatchObject({ index: 5, low: Number.NaN, qValue: Number.NaN })
  })

  test('refuse what cannot be compared', async () => {
    const stats = await collect(activations(1, 0))
    await expect(diffLatents(stats, [])).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    await expect(diffLatents(stats, new LatentStats(latents))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
    await expect(diffLatents(stats, stats, { confidence: 1 })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
    expect(() => stats.examples(latents)).toThrow(/whole number/)
  })
})
