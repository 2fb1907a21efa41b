import { describe, expect, it } from 'vitest'
import { runtimeInfo } from '../../lib/core/runtime.js'
import { Sae, type Device } from '../../lib/sae/sae.js'

const dModel = 8
const latents = 64
const wave = (count: number, step: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(i * step))

function make(device?: Device): Sae {
  return Sae.fromWeights(
    {
      dModel,
      latents,
      k: 5,
      wEnc: wave(latents * dModel, 1.7),
      wDec: wave(latents * dModel, 0.9),
      bEnc: wave(latents, 0.3),
      bDec: wave(dModel, 2.1),
    },
    device === undefined ? {} : { device },
  )
}

describe('device', () => {
  const { usable, reason } = runtimeInfo().plugins.cuda

  it('auto gives the codes of the CPU, with a GPU and without', async () => {
    const x = wave(40 * dModel, 0.77)
    const wanted = await make('cpu').encode(x)
    const codes = await make('auto').encode(x)
    expect(codes.indices).toEqual(wanted.indices)
    expect(codes.values).toEqual(wanted.values)
    expect(wanted.indices.length).toBeGreaterThan(100)
  })

  it.runIf(usable)('cuda gives the codes of the CPU', async () => {
    const x = wave(40 * dModel, 0.77)
    const wanted = await make('cpu').encode(x)
    const codes = await make('cuda').encode(x)
    expect(codes.indices).toEqual(wanted.indices)
    expect(codes.values).toEqual(wanted.values)
  })

  it.skipIf(usable)('without a GPU cuda is an error that says why', () => {
    expect(() => make('cuda')).toThrowError(expect.objectContaining({ code: 'ERR_NOT_FOUND' }))
    expect(() => make('cuda')).toThrowError(reason)
  })

  it('other spellings and devices that are not there are refused', () => {
    expect(() => make('gpu' as Device)).toThrowError(
      expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }),
    )
    expect(() => make('cuda:4096')).toThrowError(expect.objectContaining({ code: 'ERR_NOT_FOUND' }))
  })
})
