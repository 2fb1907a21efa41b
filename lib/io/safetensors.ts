/** Reading and writing safetensors files (https://github.com/huggingface/safetensors). */
import { createHash } from 'node:crypto'
import { PersonascopeError, requireArgument } from '../core/errors.js'
import { callNative, runNative, throwIfAborted, type TaskOptions } from '../core/task.js'
import { native, type NativeSafetensorsFile, type NativeTensor } from '../native.js'
import { writeAtomic } from './atomic.js'
import { fileSha256, readBlocks } from './blocks.js'
import { ContentDigest, DIGEST_KEY } from './content-digest.js'
import { requireTensor } from './require-tensor.js'

export type Dtype =
  | 'F64'
  | 'F32'
  | 'F16'
  | 'BF16'
  | 'F8_E4M3'
  | 'F8_E5M2'
  | 'I64'
  | 'I32'
  | 'I16'
  | 'I8'
  | 'U64'
  | 'U32'
  | 'U16'
  | 'U8'
  | 'BOOL'

export type TensorArray =
  | Float64Array
  | Float32Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array

export interface TensorInfo {
  readonly name: string
  readonly dtype: Dtype
  /** Empty for a scalar. */
  readonly shape: readonly number[]
  /** Where it begins in the file. */
  readonly begin: number
  readonly byteLength: number
}

/**
 * A mapped safetensors file. Opening reads and checks the header only (see native/io/safetensors.h for what is
 * refused); tensors are read when touched.
 */
export class SafetensorsFile {
  readonly path: string
  readonly metadata: Readonly<Record<string, string>>
  /** In the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorInfo>
  readonly #file: NativeSafetensorsFile

  private constructor(path: string, file: NativeSafetensorsFile) {
    this.path = path
    this.#file = file
    this.metadata = Object.fromEntries(file.metadata())
    this.tensors = new Map(file.tensors().map((tensor) => [tensor.name, tensor as TensorInfo]))
  }

  /** Errors: `ERR_NOT_FOUND`, `ERR_IO`, `ERR_FORMAT` naming the file and the tensor. */
  static open(path: string): SafetensorsFile {
    return new SafetensorsFile(
      path,
      callNative(() => new native.SafetensorsFile(path)),
    )
  }

  /** What is said of a tensor; `ERR_NOT_FOUND` if it is not there, `ERR_FORMAT` unless it has this shape. */
  require(name: string, shape?: readonly number[]): TensorInfo {
    return requireTensor(this.path, this.tensors, name, shape)
  }

  /**
   * The tensor as a typed array over the mapped file, zero-copy: F16 and BF16 as raw Uint16Array, BOOL and F8 as
   * Uint8Array. Writing to it changes only this process's memory. A copy where the file does not align it.
   */
  view(name: string): TensorArray {
    return callNative(() => this.#file.view(name))
  }

  /**
   * The tensor's values piece by piece, read past the mapping: they do not stay resident. A piece lasts until the next
   * one. Errors: `ERR_IO`, `ERR_FORMAT` where the file has become shorter.
   */
  async *pieces(name: string, options: TaskOptions = {}): AsyncGenerator<TensorArray, void, undefined> {
    const { dtype, begin, byteLength } = this.require(name)
    const end = begin + byteLength
    for await (const block of readBlocks(this.path, { begin, end, signal: options.signal }))
      yield new arrayOf[dtype](block.buffer, 0, block.byteLength / dtypeBytes[dtype])
  }

  /** The tensor as fp32: zero-copy if it is F32, else converted from F16, BF16 (exactly) or F64 (rounded). */
  async f32(name: string, options: TaskOptions & { shape?: readonly number[] } = {}): Promise<Float32Array> {
    const tensor = this.require(name, options.shape)
    if (tensor.dtype === 'F32') return this.view(name) as Float32Array
    return runNative(options, 'values', (job) => this.tensor(name).readF32(job))
  }

  /** @internal The tensor as a view that the core reads; `ERR_FORMAT` unless it has this shape. */
  tensor(name: string, shape?: readonly number[]): NativeTensor {
    this.require(name, shape)
    return callNative(() => this.#file.tensor(name))
  }

  /** The tensor as Uint32Array, zero-copy; `ERR_FORMAT` if it is not U32. */
  u32(name: string, shape?: readonly number[]): Uint32Array {
    return this.#typed(name, 'U32', shape) as Uint32Array
  }

  /** The tensor as Int32Array, zero-copy; `ERR_FORMAT` if it is not I32. */
  i32(name: string, shape?: readonly number[]): Int32Array {
    return this.#typed(name, 'I32', shape) as Int32Array
  }

  /** SHA-256 of the whole file, hexadecimal. */
  sha256(options?: TaskOptions): Promise<string> {
    return fileSha256(this.path, options)
  }

  #typed(name: string, dtype: Dtype, shape: readonly number[] | undefined): TensorArray {
    const tensor = this.require(name, shape)
    if (tensor.dtype !== dtype)
      throw new PersonascopeError(
        'ERR_FORMAT',
        `${this.path}: tensor '${name}' is of ${tensor.dtype}, expected ${dtype}`,
      )
    return this.view(name)
  }
}

/** A tensor to be written. */
export interface TensorSource {
  name: string
  dtype: Dtype
  shape: readonly number[]
  /** The values, row-major; or a function that gives them piece by piece, for tensors larger than memory. */
  data: TensorArray | (() => Iterable<TensorArray> | AsyncIterable<TensorArray>)
}

const dtypeBytes: Readonly<Record<Dtype, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
}

/** The typed array whose elements a dtype's bytes are. */
export const arrayOf = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  F8_E4M3: Uint8Array,
  F8_E5M2: Uint8Array,
  I64: BigInt64Array,
  I32: Int32Array,
  I16: Int16Array,
  I8: Int8Array,
  U64: BigUint64Array,
  U32: Uint32Array,
  U16: Uint16Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
} as const

export interface WriteSafetensorsOptions extends TaskOptions {
  metadata?: Readonly<Record<string, string>>
  /** Also compute a SHA-256: of the file, or of its content, which is kept as `sha256` in its metadata. Default: none. */
  digest?: 'file' | 'content'
}

export interface WrittenFile {
  bytes: number
  /** The digest asked for, hexadecimal. */
  sha256: string | undefined
}

// Bytes written at once: progress is told, and a stop heard, between them.
const writeBytes = 1 << 22

/**
 * Writes a safetensors file, beside and renamed. Tensors are laid out by falling element size, then in the order
 * given, so that each one is aligned; the same tensors give the same bytes.
 *
 * Errors: `ERR_INVALID_ARGUMENT` for a wrong number or type of values, `ERR_IO`; nothing is left behind.
 */
export function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  options: WriteSafetensorsOptions & { digest: 'file' | 'content' },
): Promise<WrittenFile & { sha256: string }>
export function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  options?: WriteSafetensorsOptions,
): Promise<WrittenFile>
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  options: WriteSafetensorsOptions = {},
): Promise<WrittenFile> {
  const { metadata } = options
  requireArgument(
    options.digest !== 'content' || metadata?.[DIGEST_KEY] === undefined,
    `${path}: metadata: '${DIGEST_KEY}' is the place of the content digest`,
  )
  const ordered = tensors.toSorted((a, b) => dtypeBytes[b.dtype] - dtypeBytes[a.dtype])
  const content = options.digest === 'content' ? new ContentDigest(metadata ?? {}) : undefined
  const whole = options.digest === 'file' ? createHash('sha256') : undefined
  // The digest is known at the end; until then the header has zeros in its place.
  const header = (digest: string): Uint8Array =>
    headerBytes(path, ordered, content === undefined ? metadata : { ...metadata, [DIGEST_KEY]: digest })
  const total = ordered.reduce((sum, tensor) => sum + byteLengthOf(tensor), 0)
  return writeAtomic(path, async (write, rewrite) => {
    const begin = header('0'.repeat(64))
    whole?.update(begin)
    await write(begin)
    let done = 0
    for (const tensor of ordered) {
      let written = 0
      const expected = byteLengthOf(tensor)
      content?.tensor(tensor)
      for await (const piece of typeof tensor.data === 'function' ? tensor.data() : [tensor.data]) {
        requireArgument(
          piece[Symbol.toStringTag] === arrayOf[tensor.dtype].name,
          `${path}: tensor '${tensor.name}': found ${piece[Symbol.toStringTag]}, expected ${arrayOf[tensor.dtype].name} for ${tensor.dtype}`,
        )
        written += piece.byteLength
        requireArgument(
          written <= expected,
          `${path}: tensor '${tensor.name}': found more than the ${expected} bytes of shape [${tensor.shape.join(', ')}]`,
        )
        for (let offset = 0; offset < piece.byteLength; offset += writeBytes) {
          throwIfAborted(options)
          const length = Math.min(writeBytes, piece.byteLength - offset)
          const chunk = new Uint8Array(piece.buffer, piece.byteOffset + offset, length)
          content?.bytes(chunk)
          whole?.update(chunk)
          await write(chunk)
          done += length
          options.onProgress?.({ done, total, unit: 'bytes' })
        }
      }
      requireArgument(
        written === expected,
        `${path}: tensor '${tensor.name}': found ${written} bytes, expected ${expected} for shape [${tensor.shape.join(', ')}]`,
      )
    }
    const sha256 = content?.end() ?? whole?.digest('hex')
    if (content !== undefined) await rewrite(header(sha256!), 0)
    return { bytes: begin.byteLength + total, sha256 }
  })
}

function byteLengthOf(tensor: TensorSource): number {
  return tensor.shape.reduce((product, extent) => product * extent, dtypeBytes[tensor.dtype])
}

function headerBytes(
  path: string,
  tensors: readonly TensorSource[],
  metadata: Readonly<Record<string, string>> | undefined,
): Uint8Array {
  const entries: [string, unknown][] = metadata === undefined ? [] : [['__metadata__', metadata]]
  const names = new Set<string>(['__metadata__'])
  let offset = 0
  for (const tensor of tensors) {
    requireArgument(!names.has(tensor.name), `${path}: tensor name '${tensor.name}' cannot be used twice`)
    names.add(tensor.name)
    requireArgument(
      Buffer.from(tensor.name, 'utf8').toString('utf8') === tensor.name,
      `${path}: tensor name ${JSON.stringify(tensor.name)} holds a lone surrogate`,
    )
    requireArgument(
      tensor.shape.every((extent) => Number.isSafeInteger(extent) && extent >= 0),
      `${path}: tensor '${tensor.name}': shape [${tensor.shape.join(', ')}] is not one of whole numbers`,
    )
    const end = offset + byteLengthOf(tensor)
    requireArgument(Number.isSafeInteger(end), `${path}: tensor '${tensor.name}' is too large`)
    entries.push([tensor.name, { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [offset, end] }])
    offset = end
  }
  // An object would put names like '7' first; the entries' order is kept by writing them one by one.
  const members = entries.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`)
  const text = Buffer.from(`{${members.join(',')}}`, 'utf8')
  const padded = Math.ceil(text.byteLength / 8) * 8
  const header = Buffer.alloc(8 + padded, ' ')
  header.writeBigUInt64LE(BigInt(padded), 0)
  text.copy(header, 8)
  return header
}
