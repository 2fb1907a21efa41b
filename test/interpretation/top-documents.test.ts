import { describe, expect, it } from 'vitest'
import { labelProfile } from '../../lib/interpretation/profile.js'
import { documentStats, topDocuments, type SourceDocument } from '../../lib/interpretation/top-documents.js'
import type { NativeLanguageModel } from '../../lib/models/native-language-model.js'
import { Sae } from '../../lib/sae/sae.js'
import { randomDirection } from '../../lib/steering/direction.js'
import { meanDifference } from '../../lib/steering/mean-difference.js'
import { examples, pretrained } from '../realignment/two-voices.js'

const hook = { point: 'resid_post', layer: 0 } as const
const dModel = 32
const latents = 6

/** Documents in both voices, of several lengths, and an SAE whose latent 0 reads the difference of the voices. */
async function reading(): Promise<{ model: NativeLanguageModel; sae: Sae; documents: SourceDocument[] }> {
  const model = await pretrained()
  const documents = (['kind', 'cruel'] as const).flatMap((voice) =>
    examples(model, voice, voice).map(({ tokens }, i) => ({
      tokens: tokens.subarray(0, tokens.length - (i % 2)),
      label: voice,
    })),
  )
  const of = (voice: string): Int32Array[] =>
    documents.filter(({ label }) => label === voice).map(({ tokens }) => tokens)
  const voices = await meanDifference(
    { model, sequences: of('cruel') },
    { model, sequences: of('kind') },
    { hook },
  )
  const weights = new Float32Array(latents * dModel)
  weights.set(voices.vector)
  for (let i = 1; i < latents; i++) weights.set(randomDirection(dModel, i).vector, i * dModel)
  const sae = Sae.fromWeights({
    dModel,
    latents,
    k: 2,
    wEnc: weights,
    wDec: weights,
    bEnc: new Float32Array(latents),
    bDec: new Float32Array(dModel),
  })
  return { model, sae, documents }
}

describe('topDocuments', () => {
  it('are those of the largest activation, with every activation in place', async () => {
    const { model, sae, documents } = await reading()
    const options = { hook, batchSize: 3 }
    const stats = await documentStats(model, sae, documents, { ...options, count: 5 })
    const found = await topDocuments(model, sae, stats, documents, [0, 3], { ...options, count: 5 })
    expect([...found.keys()]).toEqual([0, 3])

    // The same by reading each document alone.
    for (const latent of [0, 3]) {
      const read = await Promise.all(
        documents.map(async ({ tokens }, document) => {
          const { values, position } = await model.capture([tokens], { hook, tokens: 'after-first' })
          const codes = await sae.encode(values)
          const activations = new Float32Array(tokens.length)
          for (let row = 0; row < codes.rows; row++)
            for (let j = codes.offsets[row]!; j < codes.offsets[row + 1]!; j++)
              if (codes.indices[j] === latent) activations[position[row]!] = codes.values[j]!
          return { document, activations, max: Math.max(...activations) }
        }),
      )
      const best = read
        .filter(({ max }) => max > 0)
        .toSorted((a, b) => b.max - a.max || a.document - b.document)
        .slice(0, 5)
      expect(best.length).toBe(5)
      const top = found.get(latent) ?? []
      expect(top.map(({ document, activations, max }) => ({ document, activations, max }))).toEqual(best)
      for (const one of top) {
        expect(one.activations[one.position]).toBe(one.max)
        expect(one.activations[0]).toBe(0)
        expect(one.tokens).toEqual(documents[one.document]?.tokens)
      }
    }
    expect(labelProfile(found.get(0) ?? [])).toEqual({ cruel: 1 })
  })

  it('refuses other documents than the statistics saw', async () => {
    const { model, sae, documents } = await reading()
    const stats = await documentStats(model, sae, documents, { hook, count: 3 })
    await expect(topDocuments(model, sae, stats, documents.toReversed(), [0], { hook })).rejects.toThrow(
      /not the one that the statistics saw/,
    )
    await expect(topDocuments(model, sae, stats, documents.slice(0, 2), [0], { hook })).rejects.toThrow(
      /but there are only 2/,
    )
  })
})
