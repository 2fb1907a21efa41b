/** Files of named tensors in any format: safetensors, numpy's .npy and .npz, torch's .pt. */
import { promisify } from 'node:util'
import { inflateRaw } from 'node:zlib'
import { PersonascopeError } from '../core/errors.js'
import { callNative, runNative, throwIfAborted, type TaskOptions } from '../core/task.js'
import { native, type NativeTensor, type NativeTensorFile } from '../native.js'
import { requireTensor } from './require-tensor.js'

export type TensorFileFormat = 'safetensors' | 'npy' | 'npz' | 'pt'
export type Scalar = null | boolean | number | string

/** Compressed arrays are unpacked into memory: at most this much of one file, in bytes. */
const unpackedLimit = 2 ** 34
/** The most that one buffer of node:zlib holds. */
const bufferLimit = 2 ** 32 - 1

/**
 * A file of named tensors, told by its first bytes. Opening reads headers only and maps the rest (compressed .npz
 * arrays are unpacked); what is refused is said in native/io/{safetensors,zip,npy,pickle}.h. A .npy file's tensor is
 * named 'array'; those of a .pt file bear the keys on the way to them, joined by '/'.
 */
export class TensorFile {
  readonly path: string
  readonly format: TensorFileFormat
  readonly tensors: ReadonlyMap<string, NativeTensor>
  /** What else a .pt file holds, or the metadata of a safetensors file. */
  readonly scalars: ReadonlyMap<string, Scalar>
  readonly #file: NativeTensorFile

  private constructor(path: string, file: NativeTensorFile) {
    this.path = path
    this.#file = file
    this.format = file.format()
    this.tensors = new Map(file.tensors())
    this.scalars = new Map(file.scalars())
  }

  /** Errors: `ERR_NOT_FOUND`, `ERR_IO`, `ERR_FORMAT` naming the file and the tensor or entry. */
  static async open(path: string, options?: TaskOptions): Promise<TensorFile> {
    const file = callNative(() => new native.TensorFile(path))
    let unpacked = 0
    for (const [index, { name, bytes, size }] of callNative(() => file.packed()).entries()) {
      throwIfAborted(options)
      unpacked += size
      if (size > bufferLimit || unpacked > unpackedLimit)
        throw new PersonascopeError(
          'ERR_FORMAT',
          `${path}: entry '${name}' unpacks to ${size} bytes: too large to be read compressed`,
          { hint: 'save it with numpy.savez instead of numpy.savez_compressed' },
        )
      let content: Buffer
      try {
        // A byte more than declared may come: then it lies, and is not read on.
        content = await promisify(inflateRaw)(bytes, { maxOutputLength: Math.max(1, size) })
      } catch (cause) {
        throw new PersonascopeError(
          'ERR_FORMAT',
          `${path}: entry '${name}' does not unpack to the ${size} bytes that it declares: ${(cause as Error).message}`,
          { cause },
        )
      }
      callNative(() => file.unpack(index, content))
    }
    return new TensorFile(path, file)
  }

  /** A tensor; `ERR_NOT_FOUND` if it is not there, `ERR_FORMAT` unless it has this shape. */
  tensor(name: string, shape?: readonly number[]): NativeTensor {
    return requireTensor(this.path, this.tensors, name, shape)
  }

  /** The values of a tensor, fp32, row-major; errors as {@link tensor}, and `ERR_FORMAT` for integers. */
  async f32(name: string, shape?: readonly number[], options?: TaskOptions): Promise<Float32Array> {
    const tensor = this.tensor(name, shape)
    return runNative({ signal: options?.signal }, 'values', (job) => tensor.readF32(job))
  }

  /** Reads all of an archive and checks its checksums; `ERR_FORMAT` names the damaged entry. */
  async verify(options?: TaskOptions): Promise<void> {
    await runNative(options, 'bytes', (job) => this.#file.verify(job))
  }
}
