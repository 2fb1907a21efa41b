import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Random } from '../../lib/core/random.js'
import { setIsa, setThreads } from '../../lib/core/runtime.js'
import { LatentStats } from '../../lib/diffing/latent-stats.js'
import { native } from '../../lib/native.js'
import { Sae, type Precision } from '../../lib/sae/sae.js'
import type { SaeSpec } from '../../lib/sae/spec.js'

// Just large enough that 'auto' thinks of screening in int8.
const dModel = 96
const latents = 48_000
const rows = 70

function normal(count: number, seed: number): Float32Array {
  const random = new Random(seed)
  return Float32Array.from({ length: count }, () => random.gaussian())
}

const spec: SaeSpec = {
  dModel,
  latents,
  architecture: 'topk',
  selection: { rule: 'topk', k: 16 },
  inputNorm: 'none',
  subtractDecoderBias: true,
  wEnc: new Float32Array(0),
  wDec: new Float32Array(0),
  bEnc: new Float32Array(0),
  bDec: new Float32Array(0),
  metadata: {},
}
const { isa, threads } = native.runtimeInfo()
let x: Float32Array
let sae: Sae

beforeAll(async () => {
  // One dimension of the inputs is far out, and weights see little of it, as in language models.
  spec.wEnc = normal(latents * dModel, 1).map((value, i) => (i % dModel === 7 ? value * 0.01 : value))
  spec.wDec = normal(latents * dModel, 2)
  spec.bEnc = normal(latents, 3)
  spec.bDec = normal(dModel, 4)
  x = normal(rows * dModel, 5).map((value, i) => value + (i % dModel === 7 ? 200 : 0))
  sae = await Sae.fromSpec(spec)
})

afterEach(() => {
  setIsa(isa)
  setThreads(threads)
  delete process.env['PERSONASCOPE_PRECISION']
})

describe('precision of screening', () => {
  test('codes are the same bits with each, on every instruction set, for any threads and split', async () => {
    const exact = await sae.encode(x, { precision: 'fp32' })
    expect(exact.report).toMatchObject({ precision: 'fp32' })
    for (const set of isa === 'reference' ? ['reference' as const] : ['avx2' as const, isa])
      for (const precision of ['int8', 'bf16', 'auto'] as const)
        for (const count of [1, 3]) {
          setIsa(set)
          setThreads(count)
          expect(await sae.encode(x, { precision })).toEqual(exact)
        }
    const one = await sae.encode(x.subarray(0, dModel), { precision: 'int8' })
    expect(one.indices).toEqual(exact.row(0).indices)
    expect(one.values).toEqual(exact.row(0).values)
  })

  test('auto screens a large encoder in int8 and says so; a small one in fp32', async () => {
    const codes = await sae.encode(x)
    expect(codes.report?.precision).toBe('int8')
    expect(codes.report!.rescoredPerToken).toBeGreaterThanOrEqual(16)
    expect(codes.report!.rescoredPerToken).toBeLessThan(latents / 16)
    const small = Sae.fromWeights({
      dModel: 4,
      latents: 6,
      k: 2,
      wEnc: normal(24, 1),
      wDec: normal(24, 2),
      bEnc: new Float32Array(6),
      bDec: new Float32Array(4),
    })
    expect((await small.encode(normal(8, 3))).report?.precision).toBe('fp32')
  })

  test('auto turns away from bounds that are too wide to pay', async () => {
    // Rows that differ less than int8 can tell.
    const row = normal(dModel, 8)
    row[7] = 1
    const close = await Sae.fromSpec({
      ...spec,
      wEnc: Float32Array.from(
        { length: latents * dModel },
        (_, i) => row[i % dModel]! * (1 + (i % 1009) * 1e-6),
      ),
    })
    const first = await close.encode(x)
    expect(first.report?.precision).toBe('int8')
    let last = first
    for (let i = 0; i < 3; i++) last = await close.encode(x)
    expect(last.report?.precision).not.toBe('int8')
    expect(last).toEqual(first)
  })

  test('the environment decides where nothing else does', async () => {
    process.env['PERSONASCOPE_PRECISION'] = 'fp32'
    expect((await sae.encode(x)).report?.precision).toBe('fp32')
    expect((await sae.encode(x, { precision: 'int8' })).report?.precision).toBe('int8')
    const given = await Sae.fromSpec(spec, { precision: 'int8' })
    expect((await given.encode(x)).report?.precision).toBe('int8')
    process.env['PERSONASCOPE_PRECISION'] = 'int4'
    await expect(sae.encode(x)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining("'int4'"),
    })
    await expect(sae.encode(x, { precision: 'fp64' as Precision })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
  })

  test('statistics gathered in one call are those of the codes', async () => {
    const fused = new LatentStats(latents)
    await fused.addActivations(sae, { values: x })
    const apart = new LatentStats(latents)
    await apart.add(await sae.encode(x, { precision: 'fp32' }))
    expect(fused.sum).toEqual(apart.sum)
    expect(fused.max).toEqual(apart.max)
  })
})

describe('preparation', () => {
  test('reads the weights once, with progress, and may be aborted', async () => {
    let fresh: Sae
    let ended: unknown
    // On a busy machine it may be done before the abort comes.
    for (let tries = 0; ended === undefined && tries < 20; tries++) {
      fresh = await Sae.fromSpec(spec)
      const aborted = new AbortController()
      const running = fresh.prepare({ signal: aborted.signal, precision: 'int8' })
      aborted.abort()
      ended = await running.catch((error: unknown) => error)
    }
    expect(ended).toMatchObject({ code: 'ERR_ABORTED' })
    let last = 0
    await fresh!.prepare({
      calibration: x,
      precision: 'int8',
      onProgress: ({ done, total, unit }) => {
        expect(unit).toBe('latents')
        expect(total).toBe(latents)
        last = done
      },
    })
    expect(last).toBe(latents)
    expect(await fresh!.encode(x)).toEqual(await sae.encode(x))
  })

  test('an outlying dimension does not spoil screening, thanks to the mean of inputs', async () => {
    const plain = await Sae.fromSpec(spec)
    await plain.prepare({ precision: 'int8' })
    const codes = await plain.encode(x.subarray(0, dModel), { precision: 'int8' }) // one row teaches no mean
    const taught = await sae.encode(x, { precision: 'int8' })
    expect(taught.report!.rescoredPerToken).toBeLessThan(codes.report!.rescoredPerToken)
  })
})

describe('decoding asks for what it needs', () => {
  test('a skip connection', async () => {
    const small = { ...spec, latents: 5, dModel: 3, dOut: 2, subtractDecoderBias: false }
    const transcoder = await Sae.fromSpec({
      ...small,
      selection: { rule: 'threshold', threshold: 0.25 },
      wEnc: normal(15, 1),
      wDec: normal(10, 2),
      wSkip: Float32Array.of(1, 0, 0, 0, 0, 2),
      bEnc: normal(5, 3),
      bDec: Float32Array.of(10, 20),
    })
    const input = normal(12, 4)
    const codes = await transcoder.encode(input)
    await expect(transcoder.decode(codes)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    const out = await transcoder.decode(codes, { input })
    for (let row = 0; row < 4; row++) {
      const wanted = [10 + input[row * 3]!, 20 + 2 * input[row * 3 + 2]!]
      const { indices, values } = codes.row(row)
      for (const [i, latent] of indices.entries()) {
        expect(values[i]).toBeGreaterThan(0.25)
        for (const [j, weight] of transcoder.decoderVector(latent).entries())
          wanted[j]! += values[i]! * weight
      }
      for (let j = 0; j < 2; j++) expect(out[row * 2 + j]).toBeCloseTo(wanted[j]!, 4)
    }
  })

  test('what normalisation took away', async () => {
    const small = await Sae.fromSpec({
      ...spec,
      latents: 5,
      dModel: 3,
      selection: { rule: 'groupmax', k: 5 },
      inputNorm: 'layer_norm',
      standardise: { mean: Float32Array.of(1, 2, 3), scale: Float32Array.of(2, 2, 4) },
      wEnc: normal(15, 1),
      wDec: new Float32Array(15),
      bEnc: normal(5, 3),
      bDec: Float32Array.of(1, 0, -1),
    })
    const input = Float32Array.of(5, 2, 11, 3, 4, -1)
    const codes = await small.encode(input)
    const out = await small.decode(codes)
    for (let row = 0; row < 2; row++) {
      const y = [0, 1, 2].map((i) => (input[row * 3 + i]! - [1, 2, 3][i]!) / [2, 2, 4][i]!)
      const mean = (y[0]! + y[1]! + y[2]!) / 3
      const sd = Math.sqrt(y.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 2)
      expect(codes.inputMean![row]).toBeCloseTo(mean, 5)
      expect(codes.inputScale![row]).toBeCloseTo(sd, 5)
      for (let i = 0; i < 3; i++)
        expect(out[row * 3 + i]).toBeCloseTo(([1, 0, -1][i]! * sd + mean) * [2, 2, 4][i]! + [1, 2, 3][i]!, 4)
    }
    await expect(small.encode(Float32Array.of(1, 2, 3))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/row 0 has equal values/),
    })
  })

  test('shapes that do not fit are named', async () => {
    await expect(Sae.fromSpec({ ...spec, bEnc: new Float32Array(3) })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/bEnc.*3.*48000/),
    })
    await expect(Sae.fromSpec({ ...spec, selection: { rule: 'groupmax', k: 7 } })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/equal groups/),
    })
  })
})
