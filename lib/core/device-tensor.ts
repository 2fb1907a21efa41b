/** Memory of a device as an object: uploaded once, used by any number of calls, freed when it is done with. */
import { DeviceMemory } from './device-memory.js'
import { native, type NativeDeviceTensor, type NativeTensor } from '../native.js'
import { requireArgument } from './errors.js'
import { callNative, runNative, type TaskOptions } from './task.js'

/**
 * Where something is computed or lies: 'auto' takes the first GPU, or the CPU where there is none. Results are the same
 * bits on all of them. `ERR_NOT_FOUND` for a GPU that is not there says why.
 */
export type Device = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`

/** A device that is there, as 'auto' and 'cuda' were understood. */
export type PlacedDevice = 'cpu' | `cuda:${number}`

/** Of a {@link DeviceTensor}, as safetensors spells it. */
export type DeviceDtype = 'F32' | 'BF16' | 'F16'

export interface UploadOptions extends TaskOptions {
  /** Default 'auto'. */
  device?: Device
  /**
   * Default: 'F32' of a Float32Array, that of a tensor of a file. A Uint16Array holds the bits of 'BF16' or 'F16' and needs
   * it; a tensor of a file may be widened to 'F32'.
   */
  dtype?: DeviceDtype
}

/**
 * A tensor on the CPU or on a GPU. Activations [rows, dModel] may be handed to an SAE as they lie; its codes and
 * reconstructions may stay beside them. It must not be written to while a call uses it. Memory that is out is
 * `ERR_OUT_OF_MEMORY`, which names the request and what is free; the process goes on.
 *
 * `free()` (or `using`) gives memory back at once; forgotten tensors are collected. Views share memory, which goes with
 * the last of them. After `free()` every use is `ERR_INVALID_ARGUMENT`.
 */
export class DeviceTensor extends DeviceMemory<NativeDeviceTensor> {
  readonly dtype: DeviceDtype
  readonly device: PlacedDevice
  readonly shape: readonly number[]
  /** In elements. */
  readonly strides: readonly number[]

  private constructor(made: NativeDeviceTensor) {
    super(made)
    this.dtype = made.dtype
    this.device = made.device
    this.shape = Object.freeze(made.shape)
    this.strides = Object.freeze(made.strides)
  }

  /** @internal */
  static fromNative(made: NativeDeviceTensor): DeviceTensor {
    return new DeviceTensor(made)
  }

  /**
   * A copy of `values`, row-major of that shape. A Float32Array is F32; a Uint16Array needs `dtype`. They must not change until
   * it settles.
   */
  static async upload(
    values: Float32Array | Uint16Array,
    shape: readonly number[],
    options: UploadOptions = {},
  ): Promise<DeviceTensor> {
    const dtype = options.dtype ?? (values instanceof Float32Array ? 'F32' : undefined)
    requireArgument(
      dtype !== undefined,
      'dtype: found none, expected BF16 or F16: a Uint16Array holds the bits of either',
    )
    const made = await runNative(options, 'rows', (job) =>
      native.deviceUpload(values, [...shape], dtype, options.device ?? 'auto', job),
    )
    return new DeviceTensor(made)
  }

  /** A copy of a tensor of a file, which is read piece by piece. */
  static async uploadTensor(tensor: NativeTensor, options: UploadOptions = {}): Promise<DeviceTensor> {
    const made = await runNative(options, 'values', (job) =>
      native.deviceUploadTensor(tensor, options.dtype, options.device ?? 'auto', job),
    )
    return new DeviceTensor(made)
  }

  /** All values 0. */
  static async zeros(shape: readonly number[], options: UploadOptions = {}): Promise<DeviceTensor> {
    const made = await runNative(options, 'values', (job) =>
      native.deviceZeros([...shape], options.dtype ?? 'F32', options.device ?? 'auto', job),
    )
    return new DeviceTensor(made)
  }

  /** Number of values. */
  get size(): number {
    return this.shape.reduce((product, extent) => product * extent, 1)
  }

  /** A copy of all values as fp32, row-major; 16-bit floats are widened exactly. */
  async download(options?: TaskOptions): Promise<Float32Array> {
    return runNative(options, 'values', (job) => this.native.download(job))
  }

  /** A copy of the bits of a tensor of BF16 or F16, row-major. */
  async downloadBits(options?: TaskOptions): Promise<Uint16Array> {
    return runNative(options, 'values', (job) => this.native.bits(job))
  }

  /** Replaces all values: row-major, a Float32Array for F32, else the bits in a Uint16Array. */
  async write(values: Float32Array | Uint16Array, options?: TaskOptions): Promise<void> {
    await runNative(options, 'rows', (job) => this.native.write(values, job))
  }

  /** A view of the places begin … end − 1 of an axis, e.g. of rows (axis 0) or of columns (the last). */
  slice(axis: number, begin: number, end: number): DeviceTensor {
    return new DeviceTensor(callNative(() => this.native.slice(axis, begin, end)))
  }

  /** A view of another shape with as many values; the tensor must have no gaps. */
  reshape(shape: readonly number[]): DeviceTensor {
    return new DeviceTensor(callNative(() => this.native.reshape([...shape])))
  }
}

/** @internal What the addon takes for activations. */
export function nativeValues(values: Float32Array | DeviceTensor): Float32Array | NativeDeviceTensor {
  return values instanceof DeviceTensor ? values.native : values
}
