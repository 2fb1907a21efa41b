import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, describe, expect, it } from 'vitest'
import { DeviceTensor } from '../../lib/core/device-tensor.js'
import { runtimeInfo } from '../../lib/core/runtime.js'
import { SafetensorsFile, writeSafetensors } from '../../lib/io/safetensors.js'
import { devices, hasGpu, wave } from '../support/devices.js'

const folder = mkdtempSync(join(tmpdir(), 'personascope-device-'))
afterAll(() => rmSync(folder, { recursive: true }))

const refused = { code: 'ERR_INVALID_ARGUMENT' }

describe.each(devices)('a tensor on %s', (device) => {
  const named = device === 'cuda' ? 'cuda:0' : device

  it('comes back as it went, of any shape', async () => {
    const values = wave(60, 0.7)
    for (const shape of [[60], [5, 12], [3, 4, 5], [60, 1]]) {
      using tensor = await DeviceTensor.upload(values, shape, { device })
      expect(tensor).toMatchObject({ dtype: 'F32', device: named, shape, size: 60 })
      expect(await tensor.download()).toEqual(values)
    }
    using empty = await DeviceTensor.upload(new Float32Array(0), [0, 7], { device })
    expect(await empty.download()).toHaveLength(0)
    using zeros = await DeviceTensor.zeros([2, 3], { device })
    expect(await zeros.download()).toEqual(new Float32Array(6))
  })

  it('of 16-bit floats widens them exactly, and gives their bits', async () => {
    // Bits of 1, −2.5, 3 and the least positive number, by the formats' definitions.
    const bf16 = Uint16Array.of(0x3f80, 0xc020, 0x4040, 0x0001)
    const f16 = Uint16Array.of(0x3c00, 0xc100, 0x4200, 0x0001)
    using one = await DeviceTensor.upload(bf16, [4], { device, dtype: 'BF16' })
    expect(await one.download()).toEqual(Float32Array.of(1, -2.5, 3, 2 ** -133))
    expect(await one.downloadBits()).toEqual(bf16)
    using other = await DeviceTensor.upload(f16, [2, 2], { device, dtype: 'F16' })
    expect(await other.download()).toEqual(Float32Array.of(1, -2.5, 3, 2 ** -24))
    await expect(DeviceTensor.upload(bf16, [4], { device })).rejects.toMatchObject(refused)
    await expect(DeviceTensor.upload(wave(4, 1), [4], { device, dtype: 'BF16' })).rejects.toThrow(
      /values: expected a Uint16Array/,
    )
    using wide = await DeviceTensor.zeros([1], { device })
    await expect(wide.downloadBits()).rejects.toThrow(/is F32, expected BF16 or F16/)
  })

  it('shows slices of rows and columns, which share its memory and keep it', async () => {
    const values = Float32Array.from({ length: 12 }, (_, i) => i)
    const tensor = await DeviceTensor.upload(values, [3, 4], { device })
    using columns = tensor.slice(1, 1, 3)
    expect(columns).toMatchObject({ shape: [3, 2], strides: [4, 1] })
    expect(await columns.download()).toEqual(Float32Array.of(1, 2, 5, 6, 9, 10))
    using rows = tensor.slice(0, 1, 3)
    await columns.write(Float32Array.of(-1, -2, -3, -4, -5, -6))
    expect(await rows.download()).toEqual(Float32Array.of(4, -3, -4, 7, 8, -5, -6, 11))
    using flat = tensor.reshape([2, 6])
    tensor.free()
    expect(await flat.download()).toEqual(Float32Array.of(0, -1, -2, 3, 4, -3, -4, 7, 8, -5, -6, 11))
    expect(() => columns.reshape([6])).toThrowError(expect.objectContaining(refused))
    expect(() => flat.reshape([5])).toThrow(/cannot be viewed as \[5\]/)
    expect(() => flat.slice(0, 1, 3)).toThrow(/slice 1 to 3 of axis 0: the tensor is \[2, 6\]/)
    expect(() => flat.slice(2, 0, 1)).toThrowError(expect.objectContaining(refused))
  })

  it('takes a tensor of a file, as it is or widened', async () => {
    const path = join(folder, `${named.replace(':', '-')}.safetensors`)
    const bits = Uint16Array.of(0x3f80, 0xc020, 0x4040, 0x4080, 0x40a0, 0x40c0)
    await writeSafetensors(path, [{ name: 'x', dtype: 'BF16', shape: [2, 3], data: bits }])
    const stored = SafetensorsFile.open(path).tensor('x')
    using as = await DeviceTensor.uploadTensor(stored, { device })
    expect(as).toMatchObject({ dtype: 'BF16', shape: [2, 3] })
    expect(await as.downloadBits()).toEqual(bits)
    using wide = await DeviceTensor.uploadTensor(stored.transpose(), { device, dtype: 'F32' })
    expect(wide).toMatchObject({ dtype: 'F32', shape: [3, 2] })
    expect(await wide.download()).toEqual(Float32Array.of(1, 4, -2.5, 5, 3, 6))
    await expect(DeviceTensor.uploadTensor(stored.transpose(), { device })).rejects.toThrow(/has gaps/)
    await expect(DeviceTensor.uploadTensor(stored, { device, dtype: 'F16' })).rejects.toMatchObject(refused)
  })

  it('is gone once freed, though a call at work ends well', async () => {
    const values = wave(100_000, 0.3)
    const tensor = await DeviceTensor.upload(values, [100, 1000], { device })
    const downloaded = tensor.download()
    tensor.free()
    expect(tensor.freed).toBe(true)
    expect(await downloaded).toEqual(values)
    await expect(tensor.download()).rejects.toMatchObject({ ...refused, message: 'the tensor was freed' })
    expect(() => tensor.slice(0, 0, 1)).toThrowError(expect.objectContaining(refused))
    tensor.free()
    {
      using scoped = await DeviceTensor.zeros([1], { device })
      expect(scoped.freed).toBe(false)
    }
  })

  it('refuses what does not fit, and goes on', async () => {
    await expect(DeviceTensor.upload(wave(5, 1), [2, 3], { device })).rejects.toMatchObject({
      ...refused,
      message: 'values: found 5 values, expected 6',
    })
    await expect(DeviceTensor.upload(wave(5, 1), [-1, 5], { device })).rejects.toMatchObject(refused)
    await expect(DeviceTensor.zeros([2 ** 40, 2 ** 40], { device })).rejects.toThrow(/larger than any memory/)
    await expect(DeviceTensor.zeros([1], { device, dtype: 'F64' as 'F32' })).rejects.toThrow(
      /dtype: found 'F64', expected F32, BF16 or F16/,
    )
    const aborted = AbortSignal.abort()
    await expect(DeviceTensor.zeros([1], { device, signal: aborted })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    })
  })

  it('names the request when memory is out, and goes on', async () => {
    await expect(DeviceTensor.zeros([2 ** 46], { device })).rejects.toMatchObject({
      code: 'ERR_OUT_OF_MEMORY',
      message: expect.stringMatching(device === 'cuda' ? /asked for, \d+ MiB of \d+ MiB free/ : /asked for/),
    })
    using small = await DeviceTensor.upload(wave(9, 1), [9], { device })
    expect(await small.download()).toEqual(wave(9, 1))
  })
})

const freeBytes = (): number => runtimeInfo().devices[0]!.freeBytes

async function forgetSome(): Promise<void> {
  for (let i = 0; i < 8; i++) await DeviceTensor.zeros([1 << 20], { device: 'cuda' })
}

describe('devices', () => {
  it.runIf(hasGpu)('get the memory of forgotten tensors back', async () => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const before = freeBytes()
    await forgetSome()
    expect(freeBytes()).toBeLessThan(before - (16 << 20))
    for (let turn = 0; turn < 50 && freeBytes() < before - (4 << 20); turn++) {
      collect()
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(freeBytes()).toBeGreaterThanOrEqual(before - (4 << 20))
  })

  it('auto takes a GPU where there is one', async () => {
    using tensor = await DeviceTensor.zeros([1])
    expect(tensor.device).toBe(hasGpu ? 'cuda:0' : 'cpu')
    expect(runtimeInfo().devices.length > 0).toBe(hasGpu)
  })

  it('that are not there are refused with the reason', async () => {
    const device = hasGpu ? ('cuda:4096' as const) : ('cuda' as const)
    await expect(DeviceTensor.zeros([1], { device })).rejects.toMatchObject({
      code: 'ERR_NOT_FOUND',
      message: expect.stringContaining(runtimeInfo().plugins.cuda.reason),
    })
  })
})
