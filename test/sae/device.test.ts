import { describe, expect, it } from 'vitest'
import { DeviceTensor, type Device } from '../../lib/core/device-tensor.js'
import { runtimeInfo } from '../../lib/core/runtime.js'
import { DeviceCodes } from '../../lib/sae/device-codes.js'
import { SparseCodes } from '../../lib/sae/codes.js'
import { Sae, type SaeOptions } from '../../lib/sae/sae.js'
import type { SaeSpec } from '../../lib/sae/spec.js'
import { devices, hasGpu, wave, waveWeights } from '../support/devices.js'

const dModel = 8
const latents = 64
const k = 5
const refused = { code: 'ERR_INVALID_ARGUMENT' }

const weights = waveWeights(dModel, latents)

const make = (options: SaeOptions = {}): Sae => Sae.fromWeights({ ...weights, k }, options)

const spec = (changes: Partial<SaeSpec>): SaeSpec => ({
  ...weights,
  architecture: 'topk',
  selection: { rule: 'topk', k },
  inputNorm: 'none',
  subtractDecoderBias: true,
  metadata: {},
  ...changes,
})

/** SAEs of every rule and every step beside the products. */
const kinds: [string, Partial<SaeSpec>][] = [
  ['topk', {}],
  ['relu', { selection: { rule: 'threshold', threshold: 0 } }],
  ['groupmax', { selection: { rule: 'groupmax', k: 8 } }],
  [
    'gated',
    {
      selection: {
        rule: 'gated',
        gateBias: wave(latents, 0.5),
        magnitudeScale: wave(latents, 0.2).map((v) => v + 2),
        magnitudeBias: wave(latents, 0.8),
      },
    },
  ],
  ['layer norm', { inputNorm: 'layer_norm' }],
  ['standardised', { standardise: { mean: wave(dModel, 3), scale: wave(dModel, 0.4).map((v) => v + 1.5) } }],
  ['scaled codes', { selectionScale: wave(latents, 0.6).map((v) => v + 1.5), scaledCodes: true }],
  [
    'skip transcoder',
    {
      dOut: 6,
      wDec: wave(latents * 6, 0.9),
      bDec: wave(6, 2.1),
      wSkip: wave(6 * dModel, 1.1),
      subtractDecoderBias: false,
    },
  ],
]

const same = (found: SparseCodes, wanted: SparseCodes): void => {
  expect(found.indices).toEqual(wanted.indices)
  expect(found.values).toEqual(wanted.values)
  expect(found.offsets).toEqual(wanted.offsets)
  expect(found.inputMean).toEqual(wanted.inputMean)
  expect(found.inputScale).toEqual(wanted.inputScale)
}

describe.each(devices)('on %s', (device) => {
  const rows = 40
  const x = wave(rows * dModel, 0.77)

  it.each(kinds)('%s: codes and reconstructions are those of arrays of the CPU', async (_, changes) => {
    const host = await Sae.fromSpec(spec(changes))
    const sae = await Sae.fromSpec(spec(changes), { device })
    expect(sae.device).toBe(device === 'cuda' ? 'cuda:0' : 'cpu')
    const wanted = await host.encode(x)
    expect(wanted.indices.length).toBeGreaterThan(rows)
    const decoded = await host.decode(wanted, { input: x })
    using tensor = await DeviceTensor.upload(x, [rows, dModel], { device })

    same(await sae.encode(x), wanted)
    same(await sae.encode(tensor), wanted)
    using codes = await sae.encode(tensor, { keepOnDevice: true })
    expect(codes).toMatchObject({
      rows,
      latents,
      device: sae.device,
      pairs: wanted.indices.length,
    })
    expect(codes.report?.precision).toBe((await sae.encode(x)).report?.precision)
    same(await codes.download(), wanted)
    expect(await sae.decode(wanted, { input: x })).toEqual(decoded)
    expect(await sae.decode(codes, { input: tensor })).toEqual(decoded)
    using kept = await sae.decode(codes, { input: x, keepOnDevice: true })
    expect(kept).toMatchObject({ device: sae.device, shape: [rows, host.dOut] })
    expect(await kept.download()).toEqual(decoded)
    using again = await sae.decode(wanted, { input: tensor, keepOnDevice: true })
    expect(await again.download()).toEqual(decoded)
  })

  it('takes activations of any shape and stride, and of 16 bits', async () => {
    const sae = make({ device })
    const wanted = await make().encode(x)
    const wide = new Float32Array(rows * (dModel + 3)).fill(NaN)
    for (let row = 0; row < rows; row++)
      wide.set(x.subarray(row * dModel, (row + 1) * dModel), row * (dModel + 3) + 2)
    using strided = await DeviceTensor.upload(wide, [rows, dModel + 3], { device })
    using columns = strided.slice(1, 2, 2 + dModel)
    same(await sae.encode(columns), wanted)
    using batch = await DeviceTensor.upload(x, [4, 10, dModel], { device })
    same(await sae.encode(batch), wanted)
    using none = await DeviceTensor.upload(new Float32Array(0), [0, dModel], { device })
    using nothing = await sae.encode(none, { keepOnDevice: true })
    expect(nothing).toMatchObject({ rows: 0, pairs: 0 })
    expect(await sae.decode(nothing)).toHaveLength(0)
    // bf16 keeps the upper half of an fp32 number.
    const halves = new Uint16Array(x.buffer).filter((_, i) => i % 2 === 1)
    const truncated = new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer)
    using bf16 = await DeviceTensor.upload(halves, [rows, dModel], { device, dtype: 'BF16' })
    same(await sae.encode(bf16), await make().encode(truncated))
  })

  it('refuses other widths, foreign codes and what was freed', async () => {
    const sae = make({ device })
    using narrow = await DeviceTensor.upload(x, [rows * 2, dModel / 2], { device })
    await expect(sae.encode(narrow)).rejects.toMatchObject({
      ...refused,
      message: 'activations: a tensor [80, 4], expected a last axis of dModel 8',
    })
    using across = await DeviceTensor.upload(x, [rows * dModel, 1], { device })
    await expect(sae.encode(across.reshape([dModel, rows]).slice(1, 0, 1))).rejects.toMatchObject(refused)
    const gone = await DeviceTensor.upload(x, [rows, dModel], { device })
    gone.free()
    await expect(sae.encode(gone)).rejects.toThrow(/was freed/)
    const codes = await sae.encode(x, { keepOnDevice: true })
    const other = Sae.fromWeights({ ...weights, k, latents: 32, ...half() }, { device })
    await expect(other.decode(codes)).rejects.toThrow(/codes of 64 latents, the SAE has 32/)
    codes.free()
    expect(codes.freed).toBe(true)
    await expect(codes.download()).rejects.toThrow(/DeviceCodes was freed/)
    await expect(sae.decode(codes)).rejects.toMatchObject(refused)
  })

  it('locates what is not finite, and goes on', async () => {
    const sae = make({ device })
    const bad = x.slice()
    bad[7 * dModel + 3] = NaN
    using tensor = await DeviceTensor.upload(bad, [rows, dModel], { device })
    for (const values of [bad, tensor])
      await expect(sae.encode(values)).rejects.toMatchObject({
        code: 'ERR_NON_FINITE',
        message: expect.stringMatching(/(row|token) 7.*dimension 3/),
      })
    same(await sae.encode(x), await make().encode(x))
    const wrong = new SparseCodes(latents, {
      indices: Uint32Array.of(3, latents),
      values: Float32Array.of(1, 2),
      offsets: Uint32Array.of(0, 1, 2),
    })
    await expect(sae.decode(wrong)).rejects.toMatchObject(refused)
    await expect(sae.decode(wrong, { keepOnDevice: true })).rejects.toMatchObject(refused)
    const uploaded = await DeviceCodes.upload(
      new SparseCodes(latents, { ...wrong, indices: Uint32Array.of(3, 9) }),
      {
        device,
      },
    )
    expect(await sae.decode(uploaded)).toEqual(await make().decode(await uploaded.download()))
  })

  it('stops when it is told to', async () => {
    const sae = make({ device })
    await expect(sae.encode(x, { keepOnDevice: true, signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    })
  })

  it('prepares, with activations like those to come', async () => {
    const sae = make({ device })
    const seen: number[] = []
    await sae.prepare({ calibration: x, onProgress: ({ done }) => seen.push(done) })
    expect(seen.at(-1)).toBe(latents)
    same(await sae.encode(x), await make().encode(x))
  })
})

const half = () => ({
  wEnc: weights.wEnc.slice(0, 32 * dModel),
  wDec: weights.wDec.slice(0, 32 * dModel),
  bEnc: weights.bEnc.slice(0, 32),
})

describe('device', () => {
  const { reason } = runtimeInfo().plugins.cuda
  const x = wave(40 * dModel, 0.77)

  it('auto gives the codes of the CPU, with a GPU and without, and says what it took', async () => {
    const auto = make({ device: 'auto' })
    expect(auto.device).toBe(hasGpu ? 'cuda:0' : 'cpu')
    same(await auto.encode(x), await make().encode(x))
  })

  it('fp32 is the CPU’s', async () => {
    expect(make({ device: 'auto', precision: 'fp32' }).device).toBe('cpu')
    if (!hasGpu) return
    expect(() => make({ device: 'cuda', precision: 'fp32' })).toThrow(/'fp32' is the CPU's/)
    await expect(make({ device: 'cuda' }).encode(x, { precision: 'fp32' })).rejects.toMatchObject({
      ...refused,
      message: expect.stringMatching(/'int8' or 'bf16', which give the same codes/),
    })
    for (const precision of ['int8', 'bf16'] as const) {
      const codes = await make({ device: 'cuda', precision }).encode(x)
      expect(codes.report?.precision).toBe(precision)
      same(codes, await make().encode(x))
    }
  })

  it.runIf(hasGpu)('a tensor of a GPU is refused by an SAE of the CPU, one of the host is not', async () => {
    using there = await DeviceTensor.upload(x, [40, dModel], { device: 'cuda' })
    await expect(make().encode(there)).rejects.toThrow(/activations lie on cuda:0, the SAE is on cpu/)
    using here = await DeviceTensor.upload(x, [40, dModel], { device: 'cpu' })
    same(await make({ device: 'cuda' }).encode(here), await make().encode(x))
    using codes = await make().encode(x, { keepOnDevice: true })
    await expect(make({ device: 'cuda' }).decode(codes)).rejects.toThrow(/codes lie on cpu/)
  })

  it.skipIf(hasGpu)('without a GPU cuda is an error that says why', () => {
    expect(() => make({ device: 'cuda' })).toThrowError(expect.objectContaining({ code: 'ERR_NOT_FOUND' }))
    expect(() => make({ device: 'cuda' })).toThrowError(reason)
  })

  it('other spellings and devices that are not there are refused', () => {
    expect(() => make({ device: 'gpu' as Device })).toThrowError(expect.objectContaining(refused))
    expect(() => make({ device: 'cuda:4096' })).toThrowError(
      expect.objectContaining({ code: 'ERR_NOT_FOUND' }),
    )
  })
})
