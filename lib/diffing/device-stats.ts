import { DeviceMemory } from '../core/device-memory.js'
import { nativeValues, type Device, type DeviceTensor, type PlacedDevice } from '../core/device-tensor.js'
import { callNative, runNative, throwIfAborted, type TaskOptions } from '../core/task.js'
import { native, type NativeDeviceStats } from '../native.js'
import type { DeviceCodes } from '../sae/device-codes.js'
import type { Sae } from '../sae/sae.js'
import { LatentStats } from './latent-stats.js'

/** Change between two {@link DeviceStats}, [latents] each: as `diffLatents` of one model after has them. */
export interface DeviceDifference {
  /** Mean activation after − before, over all rows. */
  delta: Float64Array
  /** delta in standard deviations over rows (pooled); NaN where never active. */
  effectSize: Float64Array
}

/**
 * Statistics of every latent that stay on a device: encoding adds to them there, codes do not come to the host. Sums are
 * exact: `read` gives the bits that `LatentStats` has over the same rows. Without sums per group and examples, which
 * need the host: those `LatentStats` gathers, of a GPU's codes too.
 */
export class DeviceStats extends DeviceMemory<NativeDeviceStats> {
  readonly latents: number
  readonly device: PlacedDevice

  private constructor(latents: number, made: NativeDeviceStats) {
    super(made)
    this.latents = latents
    this.device = made.device()
  }

  /** Empty ones; 52 bytes a latent on the device. */
  static async create(
    latents: number,
    options: TaskOptions & { device?: Device } = {},
  ): Promise<DeviceStats> {
    const made = await runNative(options, 'latents', (job) =>
      native.createDeviceStats(latents, options.device ?? 'auto', job),
    )
    return new DeviceStats(latents, made)
  }

  /** Statistics over batches of activations [rows, dModel], on the SAE's device. Progress counts rows. */
  static async collect(
    sae: Sae,
    batches: AsyncIterable<Float32Array | DeviceTensor> | Iterable<Float32Array | DeviceTensor>,
    options: TaskOptions = {},
  ): Promise<DeviceStats> {
    const { signal, onProgress } = options
    const stats = await DeviceStats.create(sae.latents, { device: sae.device, signal })
    try {
      for await (const batch of batches) {
        throwIfAborted(options)
        await stats.addActivations(sae, batch, { signal })
        onProgress?.({ done: stats.rows, total: 0, unit: 'tokens' })
      }
      return stats
    } catch (error) {
      stats.free()
      throw error
    }
  }

  /**
   * Encodes activations [rows, dModel] and adds them; of an SAE of the same device. Where it fails or is aborted, rows of
   * the batch may have been added. Errors as `Sae.encode`.
   */
  async addActivations(sae: Sae, values: Float32Array | DeviceTensor, options?: TaskOptions): Promise<void> {
    await runNative(options, 'tokens', (job) => this.native.encode(sae.native, nativeValues(values), job))
  }

  /** Adds codes of the same device. Where it fails nothing is added. */
  async add(codes: DeviceCodes, options?: TaskOptions): Promise<void> {
    await runNative(options, 'tokens', (job) => this.native.add(codes.native, job))
  }

  /** Rows seen. */
  get rows(): number {
    return callNative(() => this.native.rows())
  }

  /** What was seen so far, on the host: to be saved, merged and compared. */
  async read(options?: TaskOptions): Promise<LatentStats> {
    const stats = new LatentStats(this.latents)
    await runNative(options, 'latents', (job) => this.native.readInto(stats.native, job))
    return stats
  }

  /**
   * Change from these statistics to those of another model, computed where they lie. Errors: `ERR_INVALID_ARGUMENT`
   * (different latents or devices, no rows).
   */
  async difference(after: DeviceStats, options?: TaskOptions): Promise<DeviceDifference> {
    return runNative(options, 'latents', (job) => this.native.difference(after.native, job))
  }
}
