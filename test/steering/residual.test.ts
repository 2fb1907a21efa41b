import { describe, expect, it } from 'vitest'
import type { CapturedActivations, CaptureOptions, LanguageModel } from '../../lib/models/language-model.js'
import { meanDifference } from '../../lib/steering/mean-difference.js'
import { residualScale } from '../../lib/steering/residual-scale.js'

const hook = { point: 'resid_mid', layer: 1 } as const

/** A model whose residual stream at a token is a chosen function of its id: the answers are known by hand. */
class Residuals implements Pick<LanguageModel, 'capture'> {
  last: CaptureOptions | undefined
  constructor(
    readonly dModel: number,
    readonly residual: (token: number) => readonly number[],
  ) {}

  async capture(sequences: readonly Int32Array[], options: CaptureOptions): Promise<CapturedActivations> {
    this.last = options
    const selected = sequences.flatMap((sequence, s) =>
      [...sequence]
        .map((token, position) => ({ token, position, s }))
        .filter(({ position }) => {
          const { tokens } = options
          if (tokens === 'after-first') return position > 0
          return typeof tokens === 'object' ? tokens[s]?.[position] === 1 : true
        }),
    )
    return {
      hook: options.hook,
      values: Float32Array.from(selected.flatMap(({ token }) => this.residual(token))),
      rows: selected.length,
      dModel: this.dModel,
      sequence: Uint32Array.from(selected, ({ s }) => s),
      position: Uint32Array.from(selected, ({ position }) => position),
      tokens: Int32Array.from(selected, ({ token }) => token),
    }
  }
}

describe('residualScale', () => {
  it('is the mean, and the mean distance from it', async () => {
    // After the first tokens: (1, 0), (3, 4), (5, 8), centre (3, 4), distances √20, 0, √20.
    const model = new Residuals(2, (token) => [1 + 2 * token, 4 * token])
    const scale = await residualScale(model, [Int32Array.of(99, 0, 1), Int32Array.of(99, 2)], { hook })
    expect(scale).toEqual({
      hook,
      rows: 3,
      centre: Float32Array.of(3, 4),
      scale: expect.closeTo((2 * Math.sqrt(20)) / 3, 12),
    })
    expect(model.last).toMatchObject({ hook, tokens: 'after-first' })
  })

  it('refuses nothing, a constant and NaN', async () => {
    const constant = new Residuals(2, () => [1, 1])
    await expect(residualScale(constant, [Int32Array.of(1)], { hook })).rejects.toThrow(/no token/)
    await expect(residualScale(constant, [Int32Array.of(1, 2, 3)], { hook })).rejects.toThrow(
      /2 residuals at blocks\.1\.hook_resid_mid are all equal/,
    )
    const broken = new Residuals(2, (token) => [token, token === 2 ? Number.NaN : 0])
    await expect(residualScale(broken, [Int32Array.of(0, 1, 2)], { hook })).rejects.toMatchObject({
      code: 'ERR_NON_FINITE',
      message: expect.stringContaining('row 1, component 1'),
    })
  })
})

describe('meanDifference', () => {
  it('is positive minus negative, over the chosen tokens', async () => {
    const model = new Residuals(2, (token) => [token, -token])
    const answers = [Uint8Array.of(0, 1, 1)]
    const direction = await meanDifference(
      { model, sequences: [Int32Array.of(50, 2, 4)], tokens: answers },
      { model, sequences: [Int32Array.of(50, 1, 2)], tokens: answers },
      { hook, label: 'misaligned − aligned' },
    )
    expect(direction).toEqual({ vector: Float32Array.of(1.5, -1.5), label: 'misaligned − aligned' })
    await expect(
      meanDifference({ model, sequences: [] }, { model, sequences: [Int32Array.of(1, 2)] }, { hook }),
    ).rejects.toThrow(/positive: no token of the 0 sequences/)
  })
})
