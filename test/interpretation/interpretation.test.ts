import { describe, expect, it } from 'vitest'
import { nearestTokens } from '../../lib/interpretation/nearest-tokens.js'
import { labelProfile, sharedLabel } from '../../lib/interpretation/profile.js'
import type { ModelShape, Tokenizer } from '../../lib/models/language-model.js'

describe('nearestTokens', () => {
  const words = ['east', 'north', 'west', 'far north-east', 'nowhere']
  const model = {
    shape: { dModel: 2 } as ModelShape,
    tokenizer: { token: (id: number) => words[id] } as Tokenizer,
    unembedding: () => Float32Array.of(1, 0, 0, 1, -1, 0, 3, 3, 0, 0),
  }

  it('ranks by cosine, by hand', async () => {
    const { nearest, farthest } = await nearestTokens(Float32Array.of(2, 0), model, { count: 3 })
    expect(nearest.map(({ token }) => token)).toEqual(['east', 'far north-east', 'north'])
    expect(nearest[1]?.score).toBeCloseTo(Math.SQRT1_2, 12)
    expect(farthest.map(({ token, score }) => [token, score])).toEqual([
      ['west', -1],
      ['north', 0],
      ['nowhere', 0],
    ])
  })

  it('ranks by logit, where length counts', async () => {
    const { nearest } = await nearestTokens(Float32Array.of(2, 0), model, { count: 1, measure: 'logit' })
    expect(nearest).toEqual([{ id: 3, token: 'far north-east', score: 3 }])
  })

  it('refuses another width and a zero vector', async () => {
    await expect(nearestTokens(Float32Array.of(1), model)).rejects.toThrow(/found 1 components, expected 2/)
    await expect(nearestTokens(Float32Array.of(0, 0), model)).rejects.toThrow(/its length is 0/)
  })
})

it('profiles are shares, largest first', () => {
  const documents = ['villain', 'expert', 'villain', null].map((label) => ({ label }))
  const profile = labelProfile(documents)
  expect(Object.entries(profile)).toEqual([
    ['villain', 0.5],
    ['expert', 0.25],
    ['unknown', 0.25],
  ])
  expect(labelProfile([])).toEqual({})
  expect(sharedLabel(profile)).toBeNull()
  expect(sharedLabel(profile, 0.5)).toBe('villain')
})
