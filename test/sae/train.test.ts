import { describe, expect, test } from 'vitest'
import { Random } from '../../lib/core/random.js'
import { setThreads } from '../../lib/core/runtime.js'
import { native } from '../../lib/native.js'
import { trainSae, type SaeTrainingStep } from '../../lib/sae/train.js'

const dModel = 20
const hidden = 32

/** Sums of three of `hidden` directions: what a TopK SAE can take apart. */
function batches(count: number, seed: number, rows = 256): Float32Array[] {
  const random = new Random(11)
  const basis = Float32Array.from({ length: hidden * dModel }, () => random.gaussian())
  const draw = new Random(seed)
  return Array.from({ length: count }, () => {
    const x = new Float32Array(rows * dModel).fill(0.3)
    for (let row = 0; row < rows; row++)
      for (let part = 0; part < 3; part++) {
        const direction = draw.integer(hidden)
        const size = 0.5 + draw.float()
        for (let i = 0; i < dModel; i++) x[row * dModel + i]! += size * basis[direction * dModel + i]!
      }
    return x
  })
}

async function encoderVector(count: number, seed: number): Promise<Float32Array> {
  setThreads(count)
  const { sae } = await trainSae(batches(20, 2), {
    dModel,
    latents: 40,
    k: 3,
    seed,
    deadAfterTokens: 1000,
  })
  return sae.encoderVector(7)
}

describe('training', () => {
  test('explains sparse data, streams, and reports', async () => {
    const seen: SaeTrainingStep[] = []
    const progress: number[] = []
    async function* stream(): AsyncGenerator<{ values: Float32Array }> {
      for (const values of batches(500, 1)) yield { values }
    }
    const { sae, report } = await trainSae(stream(), {
      dModel,
      latents: 48,
      k: 3,
      learningRate: (step) => (step < 350 ? 3e-3 : 5e-4),
      steps: 400,
      deadAfterTokens: 5000,
      onStep: (step) => seen.push(step),
      onProgress: ({ done, total, unit }) => {
        expect(total).toBe(400)
        expect(unit).toBe('steps')
        progress.push(done)
      },
      metadata: { modelName: 'none' },
    })
    expect(seen.length).toBe(400)
    expect(progress.at(-1)).toBe(400)
    expect(report.step).toBe(400)
    expect(report.tokens).toBe(400 * 256)
    expect(report.history.fvu).toEqual(seen.map(({ fvu }) => fvu))
    expect(seen[0]!.fvu).toBeGreaterThan(0.4)
    expect(report.fvu).toBeLessThan(0.2)
    expect(report.l0).toBeGreaterThan(1)
    expect(report.l0).toBeLessThanOrEqual(3)
    expect(sae.metadata.modelName).toBe('none')
    // The FVU holds for inputs that training never saw, encoded and decoded by the result.
    const [fresh] = batches(1, 99, 500) as [Float32Array]
    const back = await sae.decode(await sae.encode(fresh))
    let error = 0
    let variance = 0
    for (let i = 0; i < dModel; i++) {
      let mean = 0
      for (let row = 0; row < 500; row++) mean += fresh[row * dModel + i]! / 500
      for (let row = 0; row < 500; row++) {
        error += (fresh[row * dModel + i]! - back[row * dModel + i]!) ** 2
        variance += (fresh[row * dModel + i]! - mean) ** 2
      }
    }
    expect(error / variance).toBeLessThan(0.2)
    expect(Math.hypot(...sae.decoderVector(5))).toBeCloseTo(1, 4)
  })

  test('gives the same bits for any number of threads, other bits for another seed', async () => {
    const { threads } = native.runtimeInfo()
    try {
      const one = await encoderVector(1, 0)
      expect(await encoderVector(2, 0)).toEqual(one)
      expect(await encoderVector(1, 5)).not.toEqual(one)
    } finally {
      setThreads(threads)
    }
  })

  test('says which batch is bad', async () => {
    const [first, second] = batches(2, 3) as [Float32Array, Float32Array]
    second[5 * dModel + 2] = Number.POSITIVE_INFINITY
    await expect(trainSae([first, second], { dModel, latents: 30, k: 2 })).rejects.toMatchObject({
      code: 'ERR_NON_FINITE',
      message: expect.stringMatching(/batch 1.*row 5.*dimension 2/),
    })
    await expect(trainSae([], { dModel, latents: 30, k: 2 })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
    await expect(trainSae([first], { dModel, latents: 30, k: 31 })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
  })

  test('stops when aborted', async () => {
    const controller = new AbortController()
    await expect(
      trainSae(batches(50, 4), {
        dModel,
        latents: 30,
        k: 2,
        signal: controller.signal,
        onStep: ({ step }) => {
          if (step === 3) controller.abort()
        },
      }),
    ).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  })
})
