/**
 * The addon's whole surface, typed by hand in this one place. Nothing outside lib/ sees it. Long calls take
 * {@link NativeJobOptions} last and return promises (see native/addon/job.h).
 */
import { createRequire } from 'node:module'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PersonascopeError } from './core/errors.js'
import type { NativeJobOptions } from './core/task.js'

export interface NativeRuntimeInfo {
  cpu: string
  cpuFeatures: string
  isa: 'reference' | 'avx2' | 'avx512'
  threads: number
  /** The GPU plugin: opened or not, of use or not, and what it found or why not. */
  cuda: { loaded: boolean; usable: boolean; reason: string; devices: NativeDeviceInfo[] }
}

/** A GPU: DeviceInfo of native/core/device_api.h. */
export interface NativeDeviceInfo {
  name: string
  /** E.g. '9.0'. */
  computeCapability: string
  multiprocessors: number
  totalBytes: number
  freeBytes: number
  /** Which kernels run there. */
  kernels: 'portable' | 'hopper'
}

/**
 * native/addon/tensor.h: a view of a tensor in a mapped file; holds the file open. Strides are in elements.
 */
export interface NativeTensor {
  /** The file and the tensor, for messages. */
  readonly name: string
  /** As safetensors spells it, e.g. 'BF16'. */
  readonly dtype: string
  readonly shape: number[]
  readonly strides: number[]
  /** All values as fp32, row-major. */
  readF32(options: NativeJobOptions): Promise<Float32Array>
  /** Slices begin … end − 1 of the first axis as fp32, row-major; for small pieces. */
  rowsF32(begin: number, end: number): Float32Array
  /** Euclidean norms of the slices of the first axis. */
  rowNorms(options: NativeJobOptions): Promise<Float32Array>
  /** The value of a tensor of one element, of any dtype. */
  item(): number
  /** A view with the axes in this order. */
  permute(axes: readonly number[]): NativeTensor
  /** A view with the axes in reverse order. */
  transpose(): NativeTensor
  /** A view of a contiguous tensor. */
  reshape(shape: readonly number[]): NativeTensor
}

/** native/addon/device_tensor.h; every method but `free` throws once it was freed. */
export interface NativeDeviceTensor {
  readonly dtype: 'F32' | 'BF16' | 'F16'
  readonly shape: number[]
  readonly strides: number[]
  readonly device: NativeDevice
  download(options: NativeJobOptions): Promise<Float32Array>
  bits(options: NativeJobOptions): Promise<Uint16Array>
  write(values: Float32Array | Uint16Array, options: NativeJobOptions): Promise<void>
  slice(axis: number, begin: number, end: number): NativeDeviceTensor
  reshape(shape: readonly number[]): NativeDeviceTensor
  free(): void
}

/** As device_name() of native/core/plugin.h spells it. */
export type NativeDevice = 'cpu' | `cuda:${number}`

/** native/addon/tensor_file.cc */
export interface NativeTensorFile {
  format(): 'safetensors' | 'npy' | 'npz' | 'pt'
  tensors(): [string, NativeTensor][]
  scalars(): [string, null | boolean | number | string][]
  /** Arrays of a .npz file that are compressed: deflated bytes, and the size they declare to have. */
  packed(): { name: string; bytes: Uint8Array; size: number }[]
  /** Adds the array of packed()[index] to the tensors, given its inflated content. */
  unpack(index: number, content: Uint8Array): void
  /** Checks the checksums of an archive's stored entries. */
  verify(options: NativeJobOptions): Promise<void>
}

/** native/addon/safetensors.cc */
export interface NativeSafetensorsFile {
  metadata(): [string, string][]
  tensors(): { name: string; dtype: string; shape: number[]; begin: number; byteLength: number }[]
  view(name: string): Float32Array | Uint32Array | Int32Array | Uint8Array
  tensor(name: string): NativeTensor
}

/** native/addon/transformer.cc: what a decoder-only transformer is made of (native/transformer/config.h). */
export interface NativeTransformerConfig {
  /** 0 GPT-2, 1 Llama. */
  family: 0 | 1
  vocabulary: number
  width: number
  layers: number
  heads: number
  kvHeads: number
  headDim: number
  hidden: number
  positions: number
  normEps: number
  activation: 'relu' | 'gelu_tanh' | 'gelu' | 'silu'
  tied: boolean
  qkvBias: boolean
  outBias: boolean
  mlpBias: boolean
  ropeTheta: number
  /** 0 none, 1 linear, 2 llama3. */
  ropeScaling: 0 | 1 | 2
  ropeFactor: number
  ropeLowFreqFactor: number
  ropeHighFreqFactor: number
  ropeOriginalPositions: number
  initialStd: number
}

/** A place in the residual stream: point 0 pre, 1 mid, 2 post. */
export interface NativeHook {
  point: number
  layer: number
}

/** native/transformer/interventions.h */
export interface NativeIntervention {
  hook: NativeHook
  /** 0 add, 1 ablate, 2 clamp, 3 project. */
  operation: number
  /** 0 all, 1 after the first, 2 prompt, 3 answer, 4 masked. */
  tokens: number
  /** [d], or [sequences, d] if perSequence. */
  vectors: Float32Array
  perSequence: boolean
  amount: number
  amounts?: Float32Array
  centre?: Float32Array
  mask?: Uint8Array
}

/** Packed sequences: sequence s is tokens[offsets[s]] … tokens[offsets[s + 1] − 1]. */
export interface NativeBatch {
  tokens: Int32Array
  offsets: Uint32Array
  promptLengths?: Uint32Array
  interventions?: NativeIntervention[]
}

export interface NativeParameter {
  name: string
  shape: number[]
  /** Place in the arena of values. */
  offset: number
  size: number
}

export interface NativeTransformer {
  initialise(seed: number): void
  load(files: string[], options: NativeJobOptions): Promise<void>
  copyFrom(other: NativeTransformer): void
  parameters(): NativeParameter[]
  /** The weights themselves, zero-copy. */
  values(): Float32Array
  /** To be called after `values` were written to. */
  changed(): void
  addAdapters(options: {
    rank: number
    alpha: number
    rankStabilised: boolean
    modules: string[]
    seed: number
  }): void
  removeAdapters(): void
  mergeAdapters(options: NativeJobOptions): Promise<void>
  loadAdapters(file: string, options: NativeJobOptions): Promise<void>
  adapterParameters(): NativeParameter[]
  /** A copy. */
  adapterValues(): Float32Array
  forward(
    request: NativeBatch & {
      capture?: NativeHook
      mask?: Uint8Array
      logProbs: boolean
      lastLogits: boolean
    },
    options: NativeJobOptions,
  ): Promise<{ captured?: Float32Array; logProbs?: Float32Array; lastLogits?: Float32Array }>
  gradientAt(
    request: NativeBatch & { hook: NativeHook; mask?: Uint8Array; weights?: Float32Array },
    options: NativeJobOptions,
  ): Promise<{ loss: number; gradient: Float32Array }>
  sample(
    request: NativeBatch & {
      rowPrompt: Uint32Array
      rowStream: BigUint64Array
      seed: number
      maxNewTokens: number
      temperature: number
      topP: number
      topK: number
      stop: Int32Array
      batchRows: number
    },
    options: NativeJobOptions,
  ): Promise<{
    stride: number
    tokens: Int32Array
    logProbs: Float32Array
    lengths: Uint32Array
    stopped: Uint8Array
  }>
}

export interface NativeTrainer {
  step(
    request: NativeBatch & {
      weights: Float32Array
      /** 0: the sum of |weights|. */
      normaliser: number
      learningRate: number
      /** false computes gradients only. */
      update: boolean
    },
    options: NativeJobOptions,
  ): Promise<{ loss: number; gradientNorm: number; targets: number }>
  steps(): number
  setSteps(steps: number): void
  /** Root mean square norm of the centred residual stream at each noise hook. */
  noiseScales(): Float64Array
  setNoiseScales(scales: Float64Array): void
  trainedValues(): number
  /** Live views. */
  moments(): { name: string; shape: number[]; first: Float32Array; second: Float32Array }[]
  gradient(name: string): Float32Array | undefined
}

export interface NativeTrainerOptions {
  trainable: string[]
  beta1: number
  beta2: number
  eps: number
  weightDecay: number
  decayAll: boolean
  clip: number
  seed: number
  noiseHooks: NativeHook[]
  noiseStrength: number
}

/** native/addon/sae.cc. Codes: row i holds pairs offsets[i] … offsets[i + 1] − 1. */
export interface NativeCodes {
  indices: Uint32Array
  values: Float32Array
  offsets: Uint32Array
  /** [rows] where inputs are normalised. */
  inputMean?: Float32Array | undefined
  inputScale?: Float32Array | undefined
}

export interface NativeEncodeReport {
  precision: 'fp32' | 'bf16' | 'int8'
  tokens: number
  screened: number
  rescored: number
}

/** native/sae/spec.h; arrays [rows, columns] are copied. */
export interface NativeSaeSpec {
  latents: number
  width: number
  outWidth: number
  /** 0 topk, 1 threshold, 2 gated, 3 groupmax. */
  rule: 0 | 1 | 2 | 3
  k?: number
  /** 0 none, 1 constant_norm_rescale, 2 layer_norm. */
  inputNorm: 0 | 1 | 2
  /** Where a call names none. */
  precision?: NativePrecision
  /** As choose_device() of native/core/plugin.h spells it; left out: the CPU. */
  device?: string
  /** A file that keeps what int8 screening needs, and what tells versions of the source apart. */
  cache?: string
  cacheIdentity?: string
  transcoder: boolean
  subtractDecoderBias: boolean
  scaledCodes: boolean
  wEnc: NativeTensor | Float32Array
  wDec: NativeTensor | Float32Array
  wSkip?: NativeTensor | Float32Array
  bEnc: Float32Array
  bDec: Float32Array
  mean?: Float32Array
  scale?: Float32Array
  /** One, or one a latent. */
  threshold?: Float32Array
  gateBias?: Float32Array
  magnitudeScale?: Float32Array
  magnitudeBias?: Float32Array
  selectionScale?: Float32Array
  /** Of a DecoderScale. */
  decoderJoined?: number
  decoderAdded?: number
  /** [layers], and [layers, latents]: native/sae/decoder_rows.h. */
  layerThresholds?: Float32Array
  layerNorms?: Float32Array
}

/** 0 fp32, 1 bf16, 2 int8; left out, the core chooses. */
export type NativePrecision = 0 | 1 | 2

/** native/addon/device_codes.cc; every method but `free` throws once they were freed. */
export interface NativeDeviceCodes {
  about(): {
    rows: number
    pairs: number
    latents: number
    device: NativeDevice
    report: NativeEncodeReport
  }
  download(options: NativeJobOptions): Promise<NativeCodes & { report: NativeEncodeReport }>
  free(): void
}

/** native/addon/device_codes.cc */
export interface NativeDeviceStats {
  rows(): number
  device(): NativeDevice
  encode(
    sae: NativeSae,
    values: Float32Array | NativeDeviceTensor,
    options: NativeJobOptions,
  ): Promise<NativeEncodeReport>
  add(codes: NativeDeviceCodes, options: NativeJobOptions): Promise<void>
  /** Adds what was seen to statistics without groups and examples. */
  readInto(stats: NativeLatentStats, options: NativeJobOptions): Promise<void>
  difference(
    after: NativeDeviceStats,
    options: NativeJobOptions,
  ): Promise<{ delta: Float64Array; effectSize: Float64Array }>
  free(): void
}

/** SteerArgs of native/kernels/steer/steer.h. */
export interface NativeRowSteering {
  /** 0 add, 1 ablate, 2 clamp, 3 project. */
  operation: 0 | 1 | 2 | 3
  width: number
  groups: number
  dimensions: number
  vectors: Float32Array
  amounts?: Float32Array
  low?: Float32Array
  high?: Float32Array
  centre?: Float32Array
  mask?: Uint8Array
  group?: Uint32Array
}

export interface NativeSae {
  device(): NativeDevice
  /** Makes what encoding needs; progress counts latents. */
  prepare(
    precision: NativePrecision | undefined,
    calibration: Float32Array | undefined,
    options: NativeJobOptions,
  ): Promise<void>
  encode(
    values: Float32Array,
    precision: NativePrecision | undefined,
    options: NativeJobOptions,
  ): Promise<NativeCodes & { report: NativeEncodeReport }>
  encodeInto(
    stats: NativeLatentStats,
    values: Float32Array,
    groups: Uint32Array | undefined,
    ids: Float64Array | undefined,
    options: NativeJobOptions,
  ): Promise<NativeEncodeReport>
  /** `inputs` [rows, width] for a skip connection. */
  decode(
    codes: NativeCodes,
    inputs: Float32Array | undefined,
    options: NativeJobOptions,
  ): Promise<Float32Array>
  preActivations(values: Float32Array, latents: Uint32Array, options: NativeJobOptions): Promise<Float32Array>
  decoderVector(latent: number): Float32Array
  encoderVector(latent: number): Float32Array
  /** Rows begin … end − 1 of W_enc as [width, latents]. */
  encoderColumns(begin: number, end: number): Float32Array
  /** Rows begin … end − 1 of W_dec [latents, outWidth]. */
  decoderRows(begin: number, end: number): Float32Array
  encoderBias(): Float32Array
  decoderBias(): Float32Array
}

export interface NativeSaeStep {
  step: number
  tokens: number
  fvu: number
  auxFvu: number
  l0: number
  deadShare: number
}

export interface NativeSaeTrainer {
  step(values: Float32Array, learningRate: number, options: NativeJobOptions): Promise<NativeSaeStep>
  result(options: NativeJobOptions): Promise<NativeSae>
}

export interface NativeSaeTrainerOptions {
  latents: number
  width: number
  k: number
  seed: number
  /** 0 geometric median, 1 mean. */
  decoderBias: 0 | 1
  auxK: number
  auxCoefficient: number
  deadAfterTokens: number
  beta1: number
  beta2: number
  epsilon: number
}

/** The arrays of LatentStatsState (native/kernels/latent_stats/latent_stats.h). */
export interface LatentStatsArrays {
  sum: BigUint64Array
  squares: BigUint64Array
  active: BigUint64Array
  max: Float32Array
  wideLatents: Uint32Array
  wideSums: BigUint64Array
  wideSquares: BigUint64Array
  groups: Uint32Array
  groupRows: BigUint64Array
  partBegin: BigUint64Array
  partGroups: Uint32Array
  parts: Float32Array
  exampleCounts: Uint32Array
  exampleValues: Float32Array
  exampleGroups: Uint32Array
  exampleIds: Float64Array
}

/** Everything that statistics knew at one moment, and the rounded sums. */
export interface NativeLatentStatsState {
  rows: number
  /** Values of each array. */
  sizes: Readonly<Record<keyof SavedLatentStatsArrays, number>>
  /** Copies values of an array, from `first` on, as many as there is room for. */
  read<Name extends keyof SavedLatentStatsArrays>(
    name: Name,
    first: number,
    into: SavedLatentStatsArrays[Name],
  ): void
  /** Gives the memory back now; of no use afterwards. */
  release(): void
}

export interface SavedLatentStatsArrays extends LatentStatsArrays {
  roundedSum: Float64Array
  roundedSquares: Float64Array
}

/** Sums per group of a mapped file stay there. */
export type RestoredLatentStatsState = Omit<LatentStatsArrays, 'partGroups' | 'parts'> & {
  rows: number
  partGroups: Uint32Array | NativeTensor
  parts: Float32Array | NativeTensor
}

/** native/addon/latent_stats.cc */
export interface NativeLatentStats {
  add(
    codes: NativeCodes,
    groups: Uint32Array | undefined,
    ids: Float64Array | undefined,
    options: NativeJobOptions,
  ): Promise<void>
  merge(other: NativeLatentStats, options: NativeJobOptions): Promise<void>
  /** Gives the memory back now; of no use afterwards. */
  release(): void
  state(options: NativeJobOptions): Promise<NativeLatentStatsState>
  /** Becomes what the arrays of a state say, of statistics with the same options. */
  restore(state: RestoredLatentStatsState, options: NativeJobOptions): Promise<void>
  rows(): number
  array(name: 'sum' | 'sumOfSquares' | 'activeCount'): Float64Array
  array(name: 'max'): Float32Array
  examples(latent: number): { values: Float32Array; ids: Float64Array; groups: Uint32Array }
  groupRows(): { groups: Uint32Array; rows: Float64Array }
  groupSums(latent: number): { groups: Uint32Array; sums: Float64Array }
}

export interface NativeLatentDiff {
  delta: Float64Array
  effectSize: Float64Array
  standardError: Float64Array
  low: Float64Array
  high: Float64Array
  pValue: Float64Array
  qValue: Float64Array
  meanBefore: Float64Array
  meanAfter: Float64Array
  shareBefore: Float64Array
  shareAfter: Float64Array
  descending: Uint32Array
  ascending: Uint32Array
  groups: number
  alive: number
}

export interface NativeAddon {
  Sae: new (spec: NativeSaeSpec) => NativeSae
  createSae(spec: NativeSaeSpec, options: NativeJobOptions): Promise<NativeSae>
  SaeTrainer: new (options: NativeSaeTrainerOptions) => NativeSaeTrainer
  LatentStats: new (options: {
    latents: number
    examples: number
    distinctGroups: boolean
    perGroup: boolean
    exampleLatents: Uint32Array | undefined
  }) => NativeLatentStats
  diffLatents(
    before: NativeLatentStats,
    after: readonly NativeLatentStats[],
    settings: {
      resamples: number
      confidence: number
      seed: number
      test: 'paired' | 'welch' | 'permutation'
      permutations: number
    },
    options: NativeJobOptions,
  ): Promise<NativeLatentDiff>
  /** The numbers 0 … n − 1 by falling or rising value; equal ones by lower number, NaN last. */
  rankLatents(values: Float64Array, falling: boolean, options: NativeJobOptions): Promise<Uint32Array>
  /**
   * Writes row `rows[i]` of a tensor [rows, width] to row `places[i]` of `out`. Unless `after` is 'keep', it lies in a
   * mapped file that is read from front to back: the rows that follow are fetched ahead, these leave the process, or
   * the system's memory too.
   */
  readRows(
    activations: NativeTensor,
    rows: Uint32Array,
    places: Uint32Array,
    out: Float32Array,
    after: 'keep' | 'unmap' | 'evict',
    options: NativeJobOptions,
  ): Promise<void>
  /** Whether most rows of a tensor of a mapped file are in the system's memory. */
  rowsInMemory(activations: NativeTensor): boolean
  /** native/addon/device_tensor.cc */
  deviceUpload(
    values: Float32Array | Uint16Array,
    shape: readonly number[],
    dtype: string,
    device: string,
    options: NativeJobOptions,
  ): Promise<NativeDeviceTensor>
  deviceUploadTensor(
    tensor: NativeTensor,
    dtype: string | undefined,
    device: string,
    options: NativeJobOptions,
  ): Promise<NativeDeviceTensor>
  deviceZeros(
    shape: readonly number[],
    dtype: string,
    device: string,
    options: NativeJobOptions,
  ): Promise<NativeDeviceTensor>
  /** In place. */
  steerRows(
    rows: Float32Array | NativeDeviceTensor,
    steering: NativeRowSteering,
    options: NativeJobOptions,
  ): Promise<void>
  /** native/addon/device_codes.cc: the codes stay on the SAE's device. */
  encodeKept(
    sae: NativeSae,
    values: Float32Array | NativeDeviceTensor,
    precision: NativePrecision | undefined,
    options: NativeJobOptions,
  ): Promise<NativeDeviceCodes>
  uploadCodes(
    codes: NativeCodes,
    latents: number,
    device: string,
    options: NativeJobOptions,
  ): Promise<NativeDeviceCodes>
  decodeKept(
    sae: NativeSae,
    codes: NativeDeviceCodes,
    input: Float32Array | NativeDeviceTensor | undefined,
    keep: false,
    options: NativeJobOptions,
  ): Promise<Float32Array>
  decodeKept(
    sae: NativeSae,
    codes: NativeDeviceCodes,
    input: Float32Array | NativeDeviceTensor | undefined,
    keep: true,
    options: NativeJobOptions,
  ): Promise<NativeDeviceTensor>
  createDeviceStats(latents: number, device: string, options: NativeJobOptions): Promise<NativeDeviceStats>
  runtimeInfo(): NativeRuntimeInfo
  setThreads(threads: number): void
  setIsa(isa: string): void
  Transformer: new (config: NativeTransformerConfig) => NativeTransformer
  Trainer: new (model: NativeTransformer, options: NativeTrainerOptions) => NativeTrainer
  SafetensorsFile: new (path: string) => NativeSafetensorsFile
  TensorFile: new (path: string) => NativeTensorFile
  /** Index of the first NaN or infinity, or -1. */
  firstNonFinite(values: Float32Array): number
  /** The mean row of [rows, width], and the mean distance of the rows from it. */
  rowMoments(
    values: Float32Array,
    width: number,
    options: NativeJobOptions,
  ): Promise<{ mean: Float64Array; distance: number }>
  /** Product of each row with a vector, and norm of each row. */
  rowProducts(
    values: Float32Array,
    width: number,
    vector: Float32Array,
    options: NativeJobOptions,
  ): Promise<{ dots: Float64Array; norms: Float64Array }>
}

function load(): NativeAddon {
  const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
  const bindings = createRequire(import.meta.url)('bindings') as (options: object) => NativeAddon
  try {
    return bindings({ bindings: 'personascope', module_root: root })
  } catch (cause) {
    throw new PersonascopeError('ERR_NOT_FOUND', 'the native addon is not built, or not for this platform', {
      hint: `run "npm rebuild personascope" (or "npm run build:native" in ${root})`,
      cause,
    })
  }
}

export const native: NativeAddon = load()
