import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { PersonascopeError, requireArgument, toPersonascopeError } from '../core/errors.js'
import { callNative, runNative, throwIfAborted, type TaskOptions } from '../core/task.js'
import { readJson, writeJson } from '../io/json.js'
import { SafetensorsFile, writeSafetensors } from '../io/safetensors.js'
import { native, type NativeSae } from '../native.js'
import { SparseCodes } from './codes.js'
import {
  CONFIG_FILE,
  WEIGHTS_FILE,
  configOf,
  configSchema,
  settingsOf,
  type SaeMetadata,
  type SaeSettings,
} from './config.js'

/** Weights of an SAE, row-major. */
export interface SaeWeights {
  dModel: number
  latents: number
  /** Codes a token at most. */
  k: number
  /** [latents, dModel] */
  wEnc: Float32Array
  /** [latents, dModel] */
  wDec: Float32Array
  /** [latents] */
  bEnc: Float32Array
  /** [dModel] */
  bDec: Float32Array
  /** b_dec is subtracted from the input first. Default true. */
  subtractDecoderBias?: boolean
  metadata?: SaeMetadata
}

/**
 * A TopK sparse autoencoder: codes = the k largest of relu(W_enc (x − b_dec) + b_enc), reconstruction = codes · W_dec
 * + b_dec. Codes are those of fp32 arithmetic, ties by lower latent, the same bits for any batch split, number of
 * threads and instruction set (native/kernels/encode/encode.h). Immutable.
 */
export class Sae {
  readonly dModel: number
  readonly latents: number
  readonly k: number
  readonly subtractDecoderBias: boolean
  readonly metadata: Readonly<SaeMetadata>
  readonly #native: NativeSae

  private constructor(settings: Omit<SaeSettings, 'rescaleByDecoderNorm'>, made: NativeSae) {
    this.dModel = settings.dModel
    this.latents = settings.latents
    this.k = settings.k
    this.subtractDecoderBias = settings.subtractDecoderBias
    this.metadata = { ...settings.metadata }
    this.#native = made
  }

  /** An SAE of weights at hand (copied). Errors: `ERR_INVALID_ARGUMENT` (sizes), `ERR_NON_FINITE` (located). */
  static fromWeights(weights: SaeWeights): Sae {
    const settings = {
      dModel: weights.dModel,
      latents: weights.latents,
      k: weights.k,
      subtractDecoderBias: weights.subtractDecoderBias ?? true,
      metadata: weights.metadata ?? {},
    }
    const config = { ...settings, width: settings.dModel }
    return new Sae(
      settings,
      callNative(() => new native.Sae(config, weights.wEnc, 0, weights.wDec, weights.bEnc, weights.bDec)),
    )
  }

  /** @internal An SAE that the core made. */
  static fromNative(settings: Omit<SaeSettings, 'rescaleByDecoderNorm'>, made: NativeSae): Sae {
    return new Sae(settings, made)
  }

  /**
   * Reads a folder in SAELens layout: cfg.json and sae_weights.safetensors (TopK architecture; F32, F16, BF16 or F64
   * weights). Errors name the file and the field or tensor: `ERR_NOT_FOUND`, `ERR_FORMAT`, `ERR_NON_FINITE`.
   */
  static async load(folder: string, options: TaskOptions = {}): Promise<Sae> {
    throwIfAborted(options)
    const configFile = join(folder, CONFIG_FILE)
    const settings = settingsOf(await readJson(configFile, configSchema), configFile)
    const { dModel, latents } = settings
    const path = join(folder, WEIGHTS_FILE)
    const file = SafetensorsFile.open(path)
    const { signal } = options
    let wEnc = await file.f32('W_enc', { shape: [dModel, latents], signal })
    let wDec = await file.f32('W_dec', { shape: [latents, dModel], signal })
    let bEnc = await file.f32('b_enc', { shape: [latents], signal })
    const bDec = await file.f32('b_dec', { shape: [dModel], signal })
    const scaling = file.tensors.get('scaling_factor')
    if (
      scaling !== undefined &&
      !(await file.f32('scaling_factor', { signal })).every((factor) => factor === 1)
    )
      throw new PersonascopeError('ERR_FORMAT', `${path}: tensor 'scaling_factor' is not all ones`, {
        hint: 'fold it into the weights with SAELens and save the SAE again',
      })
    if (settings.rescaleByDecoderNorm)
      ({ wEnc, wDec, bEnc } = foldDecoderNorms(settings, { wEnc, wDec, bEnc }))
    try {
      const made = await runNative(options, 'weights', (job) =>
        native.createSae({ ...settings, width: dModel }, wEnc, 1, wDec, bEnc, bDec, job),
      )
      return new Sae(settings, made)
    } catch (error) {
      const failure = toPersonascopeError(error)
      throw new PersonascopeError(failure.code, `${path}: ${failure.message}`, { cause: error })
    }
  }

  /** Writes the SAELens layout into a folder (made if need be); each file beside and renamed. */
  async save(folder: string, options: TaskOptions = {}): Promise<void> {
    throwIfAborted(options)
    const { dModel, latents } = this
    try {
      await mkdir(folder, { recursive: true })
    } catch (error) {
      throw toPersonascopeError(error, folder)
    }
    const made = this.#native
    // Pieces of about 16 MB: a large SAE is never held twice.
    const encoderStep = Math.max(1, Math.floor((1 << 22) / latents))
    const decoderStep = Math.max(1, Math.floor((1 << 22) / dModel))
    async function* pieces(total: number, step: number, read: (begin: number, end: number) => Float32Array) {
      for (let begin = 0; begin < total; begin += step) {
        throwIfAborted(options)
        yield read(begin, Math.min(total, begin + step))
      }
    }
    await writeSafetensors(
      join(folder, WEIGHTS_FILE),
      [
        {
          name: 'W_enc',
          dtype: 'F32',
          shape: [dModel, latents],
          data: () => pieces(dModel, encoderStep, (begin, end) => made.encoderColumns(begin, end)),
        },
        {
          name: 'W_dec',
          dtype: 'F32',
          shape: [latents, dModel],
          data: () => pieces(latents, decoderStep, (begin, end) => made.decoderRows(begin, end)),
        },
        { name: 'b_enc', dtype: 'F32', shape: [latents], data: made.encoderBias() },
        { name: 'b_dec', dtype: 'F32', shape: [dModel], data: made.decoderBias() },
      ],
      { metadata: { format: 'pt' } },
    )
    await writeJson(join(folder, CONFIG_FILE), configOf(this))
  }

  /**
   * Codes of `values` [rows, dModel]. Errors: `ERR_INVALID_ARGUMENT` (not whole rows), `ERR_NON_FINITE` (row and
   * dimension named). `values` must not change until it settles.
   */
  async encode(values: Float32Array, options?: TaskOptions): Promise<SparseCodes> {
    return new SparseCodes(
      this.latents,
      await runNative(options, 'tokens', (job) => this.#native.encode(values, job)),
    )
  }

  /** Reconstructions [rows, dModel] of codes, b_dec included. */
  async decode(codes: SparseCodes, options?: TaskOptions): Promise<Float32Array> {
    requireArgument(
      codes.latents === this.latents,
      `codes of ${codes.latents} latents, the SAE has ${this.latents}`,
    )
    return runNative(options, 'tokens', (job) => this.#native.decode(codes, job))
  }

  /**
   * Pre-activations W_enc (x − b_dec) + b_enc of some latents, signed, before top-k and ReLU: [rows, latents.length].
   * They move before a latent is among the k largest.
   */
  async preActivations(
    values: Float32Array,
    latents: Uint32Array | readonly number[],
    options?: TaskOptions,
  ): Promise<Float32Array> {
    const chosen = this.#indices(latents)
    return runNative(options, 'tokens', (job) => this.#native.preActivations(values, chosen, job))
  }

  /** A copy of a latent's decoder vector [dModel]. */
  decoderVector(latent: number): Float32Array {
    return callNative(() => this.#native.decoderVector(latent))
  }

  /** A copy of a latent's encoder vector [dModel]. */
  encoderVector(latent: number): Float32Array {
    return callNative(() => this.#native.encoderVector(latent))
  }

  /** A copy of b_dec [dModel]. */
  decoderBias(): Float32Array {
    return this.#native.decoderBias()
  }

  /** A copy of b_enc [latents]. */
  encoderBias(): Float32Array {
    return this.#native.encoderBias()
  }

  /** @internal */
  get native(): NativeSae {
    return this.#native
  }

  #indices(latents: Uint32Array | readonly number[]): Uint32Array {
    for (const latent of latents)
      requireArgument(
        Number.isInteger(latent) && latent >= 0 && latent < this.latents,
        `latent ${latent}: the SAE has ${this.latents}`,
      )
    return Uint32Array.from(latents)
  }
}

/**
 * Puts ‖decoder vector‖ into encoder and bias, which leaves unit decoder vectors, the same selection and the same
 * reconstruction. W_enc here is [dModel, latents].
 */
function foldDecoderNorms(
  settings: SaeSettings,
  weights: { wEnc: Float32Array; wDec: Float32Array; bEnc: Float32Array },
): { wEnc: Float32Array; wDec: Float32Array; bEnc: Float32Array } {
  const { dModel, latents } = settings
  const wEnc = weights.wEnc.slice()
  const wDec = weights.wDec.slice()
  const bEnc = weights.bEnc.slice()
  for (let latent = 0; latent < latents; latent++) {
    const row = wDec.subarray(latent * dModel, (latent + 1) * dModel)
    const norm = Math.hypot(...row)
    if (norm === 0) continue
    for (let i = 0; i < dModel; i++) {
      row[i]! /= norm
      wEnc[i * latents + latent]! *= norm
    }
    bEnc[latent]! *= norm
  }
  return { wEnc, wDec, bEnc }
}
