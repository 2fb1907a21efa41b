import { DeviceMemory } from '../core/device-memory.js'
import type { Device, PlacedDevice } from '../core/device-tensor.js'
import { runNative, type TaskOptions } from '../core/task.js'
import { native, type NativeDeviceCodes } from '../native.js'
import { encodeReport, SparseCodes, type EncodeReport } from './codes.js'

/**
 * Sparse codes that stay on the device of the SAE that made them (`Sae.encode` with `keepOnDevice`): decoded and counted
 * there, downloaded when they are wanted. `free()` (or `using`) gives their memory back at once; forgotten ones are
 * collected. After it every use is `ERR_INVALID_ARGUMENT`.
 */
export class DeviceCodes extends DeviceMemory<NativeDeviceCodes> {
  /** Latents of the SAE. */
  readonly latents: number
  readonly rows: number
  /** (latent, value) pairs of all rows. */
  readonly pairs: number
  readonly device: PlacedDevice
  /** How they were made; undefined for codes that were uploaded. */
  readonly report: EncodeReport | undefined

  private constructor(made: NativeDeviceCodes, encoded: boolean) {
    super(made)
    const about = made.about()
    this.latents = about.latents
    this.rows = about.rows
    this.pairs = about.pairs
    this.device = about.device
    this.report = encoded ? encodeReport(about.report, about.rows) : undefined
  }

  /** @internal Codes that an SAE made. */
  static fromNative(made: NativeDeviceCodes): DeviceCodes {
    return new DeviceCodes(made, true)
  }

  /**
   * A copy of codes at hand. Errors: `ERR_INVALID_ARGUMENT` (a latent that is not there), `ERR_NON_FINITE` (row named),
   * `ERR_OUT_OF_MEMORY`.
   */
  static async upload(
    codes: SparseCodes,
    options: TaskOptions & { device?: Device } = {},
  ): Promise<DeviceCodes> {
    const made = await runNative(options, 'tokens', (job) =>
      native.uploadCodes(codes, codes.latents, options.device ?? 'auto', job),
    )
    return new DeviceCodes(made, false)
  }

  /** A copy on the host. */
  async download(options?: TaskOptions): Promise<SparseCodes> {
    const { report: _, ...codes } = await runNative(options, 'tokens', (job) => this.native.download(job))
    return new SparseCodes(this.latents, codes, this.report)
  }
}
