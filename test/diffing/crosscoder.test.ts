import { expect, test } from 'vitest'
import { Random } from '../../lib/core/random.js'
import { rankByDecoderNorm } from '../../lib/diffing/crosscoder.js'
import { Sae } from '../../lib/sae/sae.js'

const width = 7
const latents = 50

/** A crosscoder of two models; the decoder of latent l has norm (l mod 10) in the first and 3 in the second, 0 for 13. */
function crosscoder(): Sae {
  const random = new Random(1)
  const vector = (norm: number): number[] => {
    const values = Array.from({ length: width }, () => random.gaussian())
    const length = Math.hypot(...values)
    return values.map((value) => (value * norm) / length)
  }
  const rows: number[] = []
  for (let latent = 0; latent < latents; latent++)
    rows.push(...(latent === 13 ? Array<number>(2 * width).fill(0) : [...vector(latent % 10), ...vector(3)]))
  return Sae.fromWeights({
    dModel: 2 * width,
    latents,
    k: 4,
    wEnc: Float32Array.from(rows),
    wDec: Float32Array.from(rows),
    bEnc: new Float32Array(latents),
    bDec: new Float32Array(2 * width),
  })
}

test('latents of a crosscoder are ranked by whose decoder is longer', async () => {
  const sae = crosscoder()
  const { relative, descending, ascending } = await rankByDecoderNorm(sae)
  for (let latent = 14; latent < latents; latent++)
    expect(relative[latent]).toBeCloseTo(3 / (3 + (latent % 10)), 6)
  expect(relative[13]).toBeNaN()
  expect([...descending.subarray(0, 5)].toSorted((a, b) => a - b)).toEqual([0, 10, 20, 30, 40])
  expect(new Set(Array.from(ascending.subarray(0, 5), (latent) => latent % 10))).toEqual(new Set([9]))
  expect(descending.at(-1)).toBe(13)
  expect(ascending.at(-1)).toBe(13)
  const first = await rankByDecoderNorm(sae, { after: 0 })
  expect(first.relative[5]).toBeCloseTo(1 - relative[5]!, 12)
  await expect(rankByDecoderNorm(sae, { layers: 3 })).rejects.toThrow(/layers: found 3/)
  await expect(rankByDecoderNorm(sae, { after: 2 })).rejects.toThrow(/after: found 2, expected 0 to 1/)
})
