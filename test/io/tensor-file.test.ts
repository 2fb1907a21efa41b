import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32, deflateRawSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { TensorFile } from '../../lib/io/tensor-file.js'
import { native } from '../../lib/native.js'
import { temporaryFolder } from './temporary-folder.js'

const fixtures = join(import.meta.dirname, '../fixtures/sae')

function npy(values: Float32Array): Buffer {
  const header = `{'descr': '<f4', 'fortran_order': False, 'shape': (${values.length},), }`
  const length = Buffer.alloc(2)
  length.writeUInt16LE(header.length)
  return Buffer.concat([
    Buffer.from('\x93NUMPY\x01\x00', 'latin1'),
    length,
    Buffer.from(header),
    Buffer.from(values.buffer),
  ])
}

/** A zip archive of one deflated entry, whose directory may lie. */
function npz(content: Buffer, lie: { size?: number; crc?: number; packed?: Buffer } = {}): Buffer {
  const packed = lie.packed ?? deflateRawSync(content)
  const name = Buffer.from('a.npy')
  const common = Buffer.alloc(26)
  common.writeUInt16LE(20, 0)
  common.writeUInt16LE(8, 4)
  common.writeUInt32LE(lie.crc ?? crc32(content), 10)
  common.writeUInt32LE(packed.length, 14)
  common.writeUInt32LE(lie.size ?? content.length, 18)
  common.writeUInt16LE(name.length, 22)
  const local = Buffer.concat([Buffer.from('PK\x03\x04'), common, name, packed])
  const central = Buffer.concat([Buffer.from('PK\x01\x02\x14\x00'), common, Buffer.alloc(14), name])
  const end = Buffer.alloc(22)
  end.write('PK\x05\x06')
  end.writeUInt16LE(1, 8)
  end.writeUInt16LE(1, 10)
  end.writeUInt32LE(central.length, 12)
  end.writeUInt32LE(local.length, 16)
  return Buffer.concat([local, central, end])
}

describe('TensorFile', () => {
  it('keeps strides of torch files and of column-major arrays', async () => {
    const file = await TensorFile.open(join(fixtures, 'openai/topk/autoencoder.pt'))
    expect(file.format).toBe('pt')
    const decoder = file.tensor('decoder.weight', [12, 32])
    expect(decoder.strides).toEqual([1, 12])
    expect(file.scalars.get('activation')).toBe('TopK')
    expect(file.scalars.get('activation_state_dict/k')).toBe(4)
    const [values, columns] = [await file.f32('decoder.weight'), decoder.transpose().rowsF32(0, 32)]
    for (let i = 0; i < 12; i++)
      for (let j = 0; j < 32; j++) expect(values[i * 32 + j]).toBe(columns[j * 12 + i])
    const npzFile = await TensorFile.open(join(fixtures, 'gemma-scope/compressed/params.npz'))
    expect(npzFile.tensor('w_dec').strides).toEqual([1, 32])
    await npzFile.verify()
  })

  it('views outlive the file object, and refuse what does not fit', async () => {
    const file = await TensorFile.open(join(fixtures, 'openai/topk/autoencoder.pt'))
    const encoder = file.tensor('encoder.weight')
    expect(encoder.shape).toEqual([32, 12])
    expect(encoder.reshape([4, 8, 12]).permute([2, 0, 1]).shape).toEqual([12, 4, 8])
    expect(() => encoder.transpose().reshape([384])).toThrow(/cannot be viewed as \[384\]/)
    expect(() => encoder.permute([0, 0])).toThrow(/permutation/)
    expect(() => encoder.rowsF32(5, 33)).toThrow(/end/)
    expect(() => encoder.item()).toThrow(/expected one value/)
    expect(() => file.tensor('encoder.weight', [12, 32])).toThrow(/shape \[32, 12\], expected \[12, 32\]/)
    expect(() => file.tensor('nothing')).toThrow(/no tensor 'nothing'; found pre_bias/)
    await expect(file.f32('stats_last_nonzero')).rejects.toMatchObject({ code: 'ERR_FORMAT' })
    const Tensor = encoder.constructor as new (...args: unknown[]) => unknown
    expect(() => new Tensor()).toThrow(/comes from a file/)
    expect(() => new native.TensorFile(7 as never)).toThrow(/path/)
  })

  it('unpacks compressed arrays, no further than they declare', async () => {
    const path = join(await temporaryFolder(), 'x.npz')
    const content = npy(Float32Array.of(1, 2, 3))
    await writeFile(path, npz(content))
    expect(await (await TensorFile.open(path)).f32('a')).toEqual(Float32Array.of(1, 2, 3))
    const refused = async (bytes: Buffer, message: RegExp): Promise<void> => {
      await writeFile(path, bytes)
      await expect(TensorFile.open(path)).rejects.toMatchObject({
        code: 'ERR_FORMAT',
        message: expect.stringMatching(message),
      })
    }
    // Less than there is, more than there is, and 64 MB out of 64 KB.
    await refused(npz(content, { size: content.length - 4 }), /does not unpack to the \d+ bytes/)
    await refused(npz(content, { size: content.length + 4 }), /unpacked to \d+ bytes, expected \d+/)
    await refused(npz(Buffer.alloc(1 << 26), { size: 100 }), /does not unpack to the 100 bytes/)
    await refused(npz(content, { size: 0xf000_0000 }), /zip bomb/)
    await refused(npz(content, { crc: 7 }), /checksum/)
    await refused(npz(content, { packed: Buffer.from('no deflate at all') }), /does not unpack/)
    await refused(npz(Buffer.from('no array')), /npy array/)
  })

  it('an aborted call stops', async () => {
    const signal = AbortSignal.abort()
    await expect(
      TensorFile.open(join(fixtures, 'gemma-scope/compressed/params.npz'), { signal }),
    ).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  })
})
