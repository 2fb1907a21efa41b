import { createHash } from 'node:crypto'
import { readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { isIntact } from '../../lib/io/content-digest.js'
import { SafetensorsFile, writeSafetensors, type TensorSource } from '../../lib/io/safetensors.js'
import { temporaryFolder } from './temporary-folder.js'

/** A file written by hand, so that the reader is not only tested against our writer. */
function handMade(header: string, data: Uint8Array): Uint8Array {
  const text = Buffer.from(header)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.byteLength))
  return Buffer.concat([length, text, data])
}

describe('writing and reading', () => {
  it('gives back every tensor, the metadata, the checksum; the same tensors give the same bytes', async () => {
    const folder = await temporaryFolder()
    const path = join(folder, 'deep', 'x.safetensors')
    const tensors: TensorSource[] = [
      { name: 'bytes', dtype: 'U8', shape: [3], data: Uint8Array.of(1, 2, 3) },
      { name: '7', dtype: 'F32', shape: [2, 2], data: Float32Array.of(1, -2.5, 0, 3) },
      { name: 'big "é"', dtype: 'I64', shape: [], data: BigInt64Array.of(-5n) },
      { name: 'empty', dtype: 'U32', shape: [0, 4], data: new Uint32Array(0) },
      {
        name: 'pieces',
        dtype: 'I32',
        shape: [4],
        data: async function* () {
          yield Int32Array.of(1, 2, 3)
          yield Int32Array.of(-4)
        },
      },
    ]
    const written = await writeSafetensors(path, tensors, {
      metadata: { format: 'pt', __proto: 'x' },
      digest: 'file',
    })
    const bytes = await readFile(path)
    expect(written.bytes).toBe(bytes.byteLength)
    expect(written.sha256).toBe(createHash('sha256').update(bytes).digest('hex'))
    const file = SafetensorsFile.open(path)
    expect(await file.sha256()).toBe(written.sha256)
    expect(file.metadata).toEqual({ format: 'pt', __proto: 'x' })
    expect([...file.tensors.keys()]).toEqual(['big "é"', '7', 'empty', 'pieces', 'bytes'])
    expect(file.view('7')).toEqual(Float32Array.of(1, -2.5, 0, 3))
    expect(file.view('big "é"')).toEqual(BigInt64Array.of(-5n))
    expect(file.view('bytes')).toEqual(Uint8Array.of(1, 2, 3))
    expect(file.view('empty')).toEqual(new Uint32Array(0))
    expect(file.i32('pieces', [4])).toEqual(Int32Array.of(1, 2, 3, -4))
    expect(await readdir(join(folder, 'deep'))).toEqual(['x.safetensors'])
    await writeSafetensors(join(folder, 'again'), tensors, { metadata: { format: 'pt', __proto: 'x' } })
    expect((await readFile(join(folder, 'again'))).equals(bytes)).toBe(true)
  })

  it('keeps a digest of its content, in one pass, and knows when the content is another', async () => {
    const path = join(await temporaryFolder(), 'x.safetensors')
    const tensors: TensorSource[] = [
      { name: 'b', dtype: 'U8', shape: [3], data: Uint8Array.of(1, 2, 3) },
      { name: 'a', dtype: 'F32', shape: [2, 1], data: () => [Float32Array.of(1.5), Float32Array.of(-2)] },
    ]
    const { sha256 } = await writeSafetensors(path, tensors, {
      metadata: { z: '1', k: 'é' },
      digest: 'content',
    })
    const said = createHash('sha256')
      .update('[["k","é"],["z","1"]]')
      .update('["a","F32",[2,1]]')
      .update(Float32Array.of(1.5, -2))
      .update('["b","U8",[3]]')
      .update(Uint8Array.of(1, 2, 3))
    expect(sha256).toBe(said.digest('hex'))
    const whole = await readFile(path)
    const file = SafetensorsFile.open(path)
    expect(file.metadata).toEqual({ z: '1', k: 'é', sha256 })
    expect(await isIntact(file)).toBe(true)
    const changes = [
      ['"z":"1"', '"z":"2"'],
      ['"shape":[2,1]', '"shape":[1,2]'],
      ['"b":', '"c":'],
      ['\x01\x02\x03', '\x01\x02\x04'],
      [`"sha256":"${sha256}"`, `"sha512":"${sha256}"`],
    ] as const
    const intact: boolean[] = []
    for (const [from, to] of changes) {
      const changed = Buffer.from(whole.toString('latin1').replace(from, to), 'latin1')
      expect(changed.equals(whole)).toBe(false)
      await writeFile(path, changed)
      intact.push(await isIntact(SafetensorsFile.open(path)))
    }
    expect(intact).toEqual(changes.map(() => false))
    await expect(
      writeSafetensors(path, tensors, { metadata: { sha256: 'mine' }, digest: 'content' }),
    ).rejects.toThrow("'sha256' is the place of the content digest")
  })

  it('converts to fp32, aligned or not, and keeps a view alive after the file object is gone', async () => {
    const folder = await temporaryFolder()
    const path = join(folder, 'x.safetensors')
    const data = Buffer.alloc(16)
    data.writeUInt16LE(0x3fc0, 0) // bf16 1.5
    data.writeUInt16LE(0x3c00, 2) // f16 1
    data.writeFloatLE(-7.25, 4)
    data.writeDoubleLE(0.1, 8)
    for (const padding of ['', ' ']) {
      const header = `{"b":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},"h":{"dtype":"F16","shape":[1],"data_offsets":[2,4]},"f":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"d":{"dtype":"F64","shape":[1],"data_offsets":[8,16]}}${padding}`
      await writeFile(path, handMade(header, data))
      const file = SafetensorsFile.open(path)
      expect(await file.f32('b')).toEqual(Float32Array.of(1.5))
      expect(await file.f32('h', { shape: [1] })).toEqual(Float32Array.of(1))
      expect(await file.f32('f')).toEqual(Float32Array.of(-7.25))
      expect(await file.f32('d')).toEqual(Float32Array.of(0.1))
      expect(file.view('b')).toEqual(Uint16Array.of(0x3fc0))
    }
  })

  it('writes to a view stay in memory', async () => {
    const folder = await temporaryFolder()
    const path = join(folder, 'x.safetensors')
    await writeSafetensors(path, [{ name: 'w', dtype: 'F32', shape: [2], data: Float32Array.of(1, 2) }])
    const view = SafetensorsFile.open(path).view('w')
    view[0] = 9
    expect(SafetensorsFile.open(path).view('w')[0]).toBe(1)
  })
})

describe('refusals', () => {
  it('name the file, the tensor, what was found and expected', async () => {
    const folder = await temporaryFolder()
    const path = join(folder, 'x.safetensors')
    await writeSafetensors(path, [{ name: 'w', dtype: 'F32', shape: [2], data: Float32Array.of(1, 2) }])
    const file = SafetensorsFile.open(path)
    expect(() => file.require('v')).toThrow(/x\.safetensors: no tensor 'v'; found w/)
    expect(() => file.require('w', [3])).toThrow(/shape \[2\], expected \[3\]/)
    expect(() => file.u32('w')).toThrow(/is of F32, expected U32/)
    expect(() => file.view('v')).toThrow(expect.objectContaining({ code: 'ERR_NOT_FOUND' }))
    expect(() => SafetensorsFile.open(join(folder, 'none'))).toThrow(
      expect.objectContaining({ code: 'ERR_NOT_FOUND' }),
    )
    await truncate(path, 20)
    expect(() => SafetensorsFile.open(path)).toThrow(expect.objectContaining({ code: 'ERR_FORMAT' }))
    expect(() => SafetensorsFile.open(folder)).toThrow(expect.objectContaining({ code: 'ERR_FORMAT' }))
    expect(() => SafetensorsFile.open(7 as unknown as string)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }),
    )
  })

  it('of a wrong tensor leave the old file and nothing else', async () => {
    const folder = await temporaryFolder()
    const path = join(folder, 'x.safetensors')
    await writeFile(path, 'old')
    const bad = (source: Partial<TensorSource>): Promise<unknown> =>
      writeSafetensors(path, [
        { name: 'w', dtype: 'F32', shape: [2], data: Float32Array.of(1, 2), ...source } as TensorSource,
      ])
    await expect(bad({ shape: [3] })).rejects.toThrow(/found 8 bytes, expected 12/)
    await expect(bad({ shape: [1] })).rejects.toThrow(/more than the 4 bytes/)
    await expect(bad({ dtype: 'I32' })).rejects.toThrow(/found Float32Array, expected Int32Array/)
    await expect(bad({ shape: [-2] })).rejects.toThrow(/whole numbers/)
    await expect(bad({ name: '__metadata__' })).rejects.toThrow(/cannot be used twice/)
    await expect(bad({ name: '\ud800' })).rejects.toThrow(/lone surrogate/)
    const aborted = AbortSignal.abort()
    await expect(
      writeSafetensors(path, [{ name: 'w', dtype: 'U8', shape: [1], data: Uint8Array.of(1) }], {
        signal: aborted,
      }),
    ).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    expect(await readdir(folder)).toEqual(['x.safetensors'])
    expect(await readFile(path, 'utf8')).toBe('old')
  })
})
