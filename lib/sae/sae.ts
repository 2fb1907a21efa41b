import { DeviceTensor, nativeValues, type Device, type PlacedDevice } from '../core/device-tensor.js'
import { PersonascopeError, requireArgument, toPersonascopeError } from '../core/errors.js'
import { callNative, runNative, type TaskOptions } from '../core/task.js'
import { native, type NativePrecision, type NativeSae, type NativeSaeSpec } from '../native.js'
import { cachePlace, type CachePlace } from './cache.js'
import { encodeReport, SparseCodes } from './codes.js'
import type { SaeMetadata } from './config.js'
import { DeviceCodes } from './device-codes.js'
import { readSae } from './formats/index.js'
import { writeSaeLens, type SaeSummary } from './formats/saelens-writer.js'
import type { InputNorm, SaeSpec, Selection, WeightSource } from './spec.js'

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
 * In which latents are screened before the exact ones are chosen: codes are the same bits with each. 'auto' takes the
 * quickest that this CPU has and whose bounds are tight enough on the data at hand. PERSONASCOPE_PRECISION sets it for
 * all that say 'auto'.
 */
export type Precision = 'auto' | 'fp32' | 'bf16' | 'int8'

export interface SaeOptions {
  /**
   * Where codes and reconstructions are computed. Default 'cpu'; without such a device `ERR_NOT_FOUND`, which says why.
   * `Sae.device` tells what 'auto' took.
   */
  device?: Device
  /** Default 'auto'. 'fp32' is the CPU's: with it 'auto' takes the CPU, and a GPU is refused. */
  precision?: Precision
  /**
   * A file that keeps what int8 screening needs: the first encode (or `prepare`) writes it, and it is mapped by whoever
   * loads the SAE with it later. About latents × dModel bytes; more where the weights have to be transposed. Written
   * anew when the SAE's files changed. In `Sae.load` true stands for 'prepared.personascope' beside the weights.
   */
  cache?: string | boolean
}

export interface EncodeOptions extends TaskOptions {
  /** Default: the SAE's. */
  precision?: Precision
}

const precisions: Record<Precision, NativePrecision | undefined> = {
  auto: undefined,
  fp32: 0,
  bf16: 1,
  int8: 2,
}

function nativePrecision(precision: Precision): NativePrecision | undefined {
  requireArgument(
    Object.hasOwn(precisions, precision),
    `precision: found '${String(precision)}', expected auto, fp32, bf16 or int8`,
  )
  return precisions[precision]
}

/**
 * A sparse autoencoder or transcoder: codes = selection(W_enc x' + b_enc), reconstruction = codes · W_dec + b_dec, as
 * its {@link SaeSpec} says. Codes are those of fp32 arithmetic, ties by lower latent, the same bits for any batch split,
 * number of threads, instruction set and precision of screening (native/kernels/encode/encode.h). Immutable.
 */
export class Sae {
  readonly dModel: number
  /** Width of reconstructions. */
  readonly dOut: number
  readonly latents: number
  readonly architecture: string
  readonly selection: Readonly<Selection>
  readonly inputNorm: InputNorm
  readonly subtractDecoderBias: boolean
  readonly precision: Precision
  /** Where codes and reconstructions are computed. */
  readonly device: PlacedDevice
  readonly metadata: Readonly<SaeMetadata>
  /** @internal All but the weights. */
  readonly spec: Readonly<SaeSummary>
  readonly #native: NativeSae
  /** Kept for `save`. */
  readonly #skip: WeightSource | undefined

  private constructor(summary: SaeSummary, made: NativeSae, options: SaeOptions) {
    const { wEnc: _1, wDec: _2, wSkip, bEnc: _4, bDec: _5, ...spec } = summary as SaeSpec
    this.dModel = spec.dModel
    this.dOut = spec.dOut ?? spec.dModel
    this.latents = spec.latents
    this.architecture = spec.architecture
    this.selection = spec.selection
    this.inputNorm = spec.inputNorm
    this.subtractDecoderBias = spec.subtractDecoderBias
    this.precision = options.precision ?? 'auto'
    this.device = made.device()
    this.metadata = { ...spec.metadata }
    this.spec = spec
    this.#native = made
    this.#skip = wSkip
  }

  /** Codes a token at most, where the selection rule bounds them; else the number of latents. */
  get k(): number {
    return 'k' in this.selection ? this.selection.k : this.latents
  }

  /** An SAE of weights at hand (copied). Errors: `ERR_INVALID_ARGUMENT` (sizes), `ERR_NON_FINITE` (located). */
  static fromWeights(weights: SaeWeights, options: SaeOptions = {}): Sae {
    const spec: SaeSpec = {
      ...weights,
      architecture: 'topk',
      selection: { rule: 'topk', k: weights.k },
      inputNorm: 'none',
      subtractDecoderBias: weights.subtractDecoderBias ?? true,
      metadata: weights.metadata ?? {},
    }
    return new Sae(
      spec,
      callNative(() => new native.Sae(nativeSpec(spec, options))),
      options,
    )
  }

  /**
   * An SAE of any {@link SaeSpec}: arrays are copied, tensors of files stay where they are and are read when needed.
   * Errors: `ERR_INVALID_ARGUMENT` (what does not fit), `ERR_FORMAT` (dtypes), `ERR_NON_FINITE` (located).
   */
  static async fromSpec(spec: SaeSpec, options: SaeOptions & TaskOptions = {}): Promise<Sae> {
    requireArgument(
      typeof options.cache !== 'boolean',
      'cache: found true or false, expected the path of a file: a spec has no place of its own',
    )
    return Sae.#make(
      spec,
      options,
      options.cache === undefined ? undefined : { file: options.cache, identity: '' },
    )
  }

  static async #make(
    spec: SaeSpec,
    options: SaeOptions & TaskOptions,
    cache: CachePlace | undefined,
  ): Promise<Sae> {
    const made = await runNative(options, 'weights', (job) =>
      native.createSae({ ...nativeSpec(spec, options), ...cacheFields(cache) }, job),
    )
    return new Sae(spec, made, options)
  }

  /** @internal An SAE that the core made: TopK. */
  static fromNative(
    settings: Pick<SaeSpec, 'dModel' | 'latents' | 'subtractDecoderBias' | 'metadata'> & { k: number },
    made: NativeSae,
  ): Sae {
    return new Sae(
      {
        ...settings,
        architecture: 'topk',
        selection: { rule: 'topk', k: settings.k },
        inputNorm: 'none',
      },
      made,
      {},
    )
  }

  /**
   * The SAE in a folder or file of any format that lib/sae/formats knows: SAELens, sparsify, Gemma Scope, OpenAI,
   * dictionary_learning, crosscoders. Weights stay in the mapped files. Errors name the file and the field or tensor:
   * `ERR_NOT_FOUND`, `ERR_FORMAT`, `ERR_NON_FINITE`.
   */
  static async load(path: string, options: SaeOptions & TaskOptions = {}): Promise<Sae> {
    const spec = await readSae(path, options)
    try {
      const { cache, ...rest } = options
      if (cache === undefined || cache === false) return await Sae.fromSpec(spec, rest)
      const place = await cachePlace(path, cache)
      return await Sae.#make(spec, rest, place)
    } catch (error) {
      const failure = toPersonascopeError(error)
      throw new PersonascopeError(failure.code, `${path}: ${failure.message}`, { cause: error })
    }
  }

  /**
   * Reads the weights once and makes what encoding needs (a copy in int8, about latents × dModel bytes); the first
   * `encode` does it otherwise. Screening is sharper with `calibration` [rows, dModel]: inputs like those to come.
   * Progress counts latents. Errors: `ERR_NON_FINITE` (weights, located), `ERR_ABORTED`.
   */
  async prepare(options: EncodeOptions & { calibration?: Float32Array } = {}): Promise<void> {
    const precision = this.#precision(options)
    await runNative(options, 'latents', (job) => this.#native.prepare(precision, options.calibration, job))
  }

  /**
   * Writes the SAELens layout into a folder (made if need be); each file beside and renamed. `ERR_INVALID_ARGUMENT`
   * names what SAELens cannot express.
   */
  async save(folder: string, options: TaskOptions = {}): Promise<void> {
    const made = this.#native
    const skip = this.#skip
    await writeSaeLens(
      folder,
      this.spec,
      {
        from: folder,
        encoderColumns: (begin, end) => callNative(() => made.encoderColumns(begin, end)),
        decoderRows: (begin, end) => callNative(() => made.decoderRows(begin, end)),
        encoderBias: () => made.encoderBias(),
        decoderBias: () => made.decoderBias(),
        ...(skip === undefined
          ? {}
          : {
              skip: async () =>
                skip instanceof Float32Array
                  ? skip
                  : runNative(options, 'values', (job) => skip.readF32(job)),
            }),
      },
      options,
    )
  }

  /**
   * Codes of `values` [rows, dModel]: an array, or a tensor of the host or of this SAE's device, whose rows may be any step
   * apart. With `keepOnDevice` the codes stay on the SAE's device. Errors: `ERR_INVALID_ARGUMENT` (not whole rows, a tensor
   * of another device), `ERR_NON_FINITE` (row and dimension named). `values` must not change until it settles.
   */
  async encode(
    values: Float32Array | DeviceTensor,
    options: EncodeOptions & { keepOnDevice: true },
  ): Promise<DeviceCodes>
  async encode(
    values: Float32Array | DeviceTensor,
    options?: EncodeOptions & { keepOnDevice?: false },
  ): Promise<SparseCodes>
  async encode(
    values: Float32Array | DeviceTensor,
    options: EncodeOptions & { keepOnDevice?: boolean } = {},
  ): Promise<SparseCodes | DeviceCodes> {
    const precision = this.#precision(options)
    if (options.keepOnDevice === true || values instanceof DeviceTensor) {
      const made = await runNative(options, 'tokens', (job) =>
        native.encodeKept(this.#native, nativeValues(values), precision, job),
      )
      const kept = DeviceCodes.fromNative(made)
      if (options.keepOnDevice === true) return kept
      try {
        return await kept.download({ signal: options.signal })
      } finally {
        kept.free()
      }
    }
    const { report, ...codes } = await runNative(options, 'tokens', (job) =>
      this.#native.encode(values, precision, job),
    )
    return new SparseCodes(this.latents, codes, encodeReport(report, codes.offsets.length - 1))
  }

  /**
   * Reconstructions [rows, dOut] of codes, b_dec included and normalisation undone. A transcoder with a skip connection
   * needs the `input` [rows, dModel] that was encoded. With `keepOnDevice` they stay on the SAE's device, where nobody looks
   * for infinite values.
   */
  async decode(
    codes: SparseCodes | DeviceCodes,
    options: TaskOptions & { input?: Float32Array | DeviceTensor; keepOnDevice: true },
  ): Promise<DeviceTensor>
  async decode(
    codes: SparseCodes | DeviceCodes,
    options?: TaskOptions & { input?: Float32Array | DeviceTensor; keepOnDevice?: false },
  ): Promise<Float32Array>
  async decode(
    codes: SparseCodes | DeviceCodes,
    options: TaskOptions & { input?: Float32Array | DeviceTensor; keepOnDevice?: boolean } = {},
  ): Promise<Float32Array | DeviceTensor> {
    requireArgument(
      codes.latents === this.latents,
      `codes of ${codes.latents} latents, the SAE has ${this.latents}`,
    )
    const { input, keepOnDevice = false } = options
    if (!(codes instanceof DeviceCodes || keepOnDevice || input instanceof DeviceTensor))
      return runNative(options, 'tokens', (job) => this.#native.decode(codes, input, job))
    const there =
      codes instanceof DeviceCodes
        ? codes
        : await DeviceCodes.upload(codes, { device: this.device, signal: options.signal })
    const given = input === undefined ? undefined : nativeValues(input)
    try {
      return await runNative<Float32Array | DeviceTensor>(options, 'tokens', async (job) =>
        keepOnDevice
          ? DeviceTensor.fromNative(await native.decodeKept(this.#native, there.native, given, true, job))
          : native.decodeKept(this.#native, there.native, given, false, job),
      )
    } finally {
      if (there !== codes) there.free()
    }
  }

  /**
   * Pre-activations W_enc x' + b_enc of some latents, signed, before selection and ReLU: [rows, latents.length]; of a
   * gated SAE those of the gate. They move before a latent becomes a code.
   */
  async preActivations(
    values: Float32Array,
    latents: Uint32Array | readonly number[],
    options?: TaskOptions,
  ): Promise<Float32Array> {
    const chosen = this.#indices(latents)
    return runNative(options, 'tokens', (job) => this.#native.preActivations(values, chosen, job))
  }

  /** A copy of a latent's decoder vector [dOut]. */
  decoderVector(latent: number): Float32Array {
    return callNative(() => this.#native.decoderVector(latent))
  }

  /** A copy of a latent's encoder vector [dModel]. */
  encoderVector(latent: number): Float32Array {
    return callNative(() => this.#native.encoderVector(latent))
  }

  /** A copy of b_dec [dOut]. */
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

  /** Of one call; undefined leaves it to what the SAE was made with. */
  #precision(options: EncodeOptions): NativePrecision | undefined {
    return options.precision === undefined ? undefined : nativePrecision(options.precision)
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

const rules = { topk: 0, threshold: 1, gated: 2, groupmax: 3 } as const
const norms = { none: 0, constant_norm_rescale: 1, layer_norm: 2 } as const

function nativeSpec(spec: SaeSpec, options: SaeOptions): NativeSaeSpec {
  const { selection, standardise } = spec
  const made: NativeSaeSpec = {
    latents: spec.latents,
    width: spec.dModel,
    outWidth: spec.dOut ?? spec.dModel,
    rule: rules[selection.rule],
    inputNorm: norms[spec.inputNorm],
    transcoder: spec.dOut !== undefined,
    subtractDecoderBias: spec.subtractDecoderBias,
    scaledCodes: spec.scaledCodes ?? false,
    wEnc: spec.wEnc,
    wDec: spec.wDec,
    bEnc: spec.bEnc,
    bDec: spec.bDec,
  }
  const precision = nativePrecision(options.precision ?? 'auto')
  if (precision !== undefined) made.precision = precision
  if (options.device !== undefined) made.device = options.device
  if (spec.wSkip !== undefined) made.wSkip = spec.wSkip
  if (spec.selectionScale instanceof Float32Array) made.selectionScale = spec.selectionScale
  else if (spec.selectionScale !== undefined) {
    const { joined, added } = spec.selectionScale
    requireArgument(
      joined >= 0 && added >= 0 && joined + added > 0,
      `selectionScale: found joined ${joined} and added ${added}, expected at least 0, and one above`,
    )
    requireArgument(
      added === 0 || (spec.layers ?? 1) === 1 || !(spec.wDec instanceof Float32Array),
      "selectionScale: the sum of the layers' norms needs a decoder that lies in a file",
    )
    Object.assign(made, { decoderJoined: joined, decoderAdded: added })
  }
  if (spec.layerGates !== undefined)
    Object.assign(made, { layerThresholds: spec.layerGates.thresholds, layerNorms: spec.layerGates.norms })
  if (standardise !== undefined) Object.assign(made, { mean: standardise.mean, scale: standardise.scale })
  if (selection.rule === 'threshold') {
    const { threshold } = selection
    made.threshold = typeof threshold === 'number' ? Float32Array.of(threshold) : threshold
  } else if (selection.rule === 'gated') {
    made.gateBias = selection.gateBias
    made.magnitudeScale = selection.magnitudeScale
    made.magnitudeBias = selection.magnitudeBias
  } else {
    made.k = selection.k
  }
  return made
}

function cacheFields(place: CachePlace | undefined): Pick<NativeSaeSpec, 'cache' | 'cacheIdentity'> {
  return place === undefined ? {} : { cache: place.file, cacheIdentity: place.identity }
}
