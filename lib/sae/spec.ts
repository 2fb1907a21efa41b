/** What an SAE computes, whatever format it came from. Every reader in lib/sae/formats makes one of these. */
import type { NativeTensor } from '../native.js'
import type { SaeMetadata } from './config.js'

/**
 * How a latent's pre-activation h = w · x' + b becomes a code. Codes are always > 0.
 * - `topk`: the k largest of relu(h), ties by lower latent.
 * - `threshold`: relu(h) where h > threshold, strictly. relu is a threshold of 0; jumprelu has one a latent; batchtopk
 *   at inference one for all.
 * - `gated`: with p = w · x' (no bias), relu(p · magnitudeScale + magnitudeBias) where p + gateBias > 0.
 * - `groupmax`: latents lie in k contiguous groups; the largest of relu(h) of each group.
 */
export type Selection =
  | { rule: 'topk'; k: number }
  | { rule: 'threshold'; threshold: number | Float32Array }
  | { rule: 'gated'; gateBias: Float32Array; magnitudeScale: Float32Array; magnitudeBias: Float32Array }
  | { rule: 'groupmax'; k: number }

/**
 * Normalisation of a token before encoding, undone after decoding.
 * - `constant_norm_rescale`: x · √d / ‖x‖.
 * - `layer_norm`: (x − mean) / (σ + 1e-5), σ unbiased (n − 1).
 */
export type InputNorm = 'none' | 'constant_norm_rescale' | 'layer_norm'

/** A tensor where it lies (mapped file), or values at hand, row-major. */
export type WeightSource = NativeTensor | Float32Array

/**
 * A factor a latent, from the norms of its decoder vectors, one a layer of a crosscoder: `joined` × that of all of them side
 * by side + `added` × the sum of theirs. Both at least 0.
 */
export interface DecoderScale {
  joined: number
  added: number
}

/** The norms of the decoder vectors. */
export const DECODER_NORMS: DecoderScale = { joined: 1, added: 0 }

export interface SaeSpec {
  /** Width of the input. A crosscoder's layers stand side by side: layers × d_model. */
  dModel: number
  latents: number
  /**
   * Width of the output. Giving it (even if it is dModel) says that this is a transcoder: the normalisation of the
   * input is not undone after decoding. Default dModel.
   */
  dOut?: number
  /** Layers a crosscoder reads; dModel and dOut are divided by it. Default 1. */
  layers?: number
  /** Name of the architecture in its own library, e.g. 'jumprelu', 'BatchTopK'. */
  architecture: string
  selection: Selection
  inputNorm: InputNorm
  /** x → (x − mean) / scale per dimension, [dModel] each, before all else; undone after decoding. */
  standardise?: { mean: Float32Array; scale: Float32Array }
  /** b_dec is subtracted from the input first (after normalisation). */
  subtractDecoderBias: boolean
  /**
   * [latents] ≥ 0: latents are chosen by h × this (SAELens' rescale_acts_by_decoder_norm, crosscoders). A DecoderScale is
   * computed when something is first encoded: a decoder may be larger than memory.
   */
  selectionScale?: Float32Array | DecoderScale
  /**
   * Of decoupled crosscoders: `norms` [layers, latents], `thresholds` [layers]. A code counts in a layer, when it is
   * decoded, where code × norm > threshold.
   */
  layerGates?: { norms: Float32Array; thresholds: Float32Array }
  /** Codes are h × selectionScale, and are divided by it before decoding (SAELens); else codes are h. */
  scaledCodes?: boolean
  /** Logical shape [latents, dModel]; strides say how it lies. */
  wEnc: WeightSource
  /** Logical shape [latents, dOut]; a crosscoder's in a file may be [latents, layers, dOut / layers]. */
  wDec: WeightSource
  /** Logical shape [dOut, dModel]: adds wSkip · x (the raw input) to the output of skip transcoders. */
  wSkip?: WeightSource
  /** [latents]; zeros for gated SAEs. */
  bEnc: Float32Array
  /** [dOut] */
  bDec: Float32Array
  metadata: SaeMetadata
}
