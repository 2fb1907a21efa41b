/** Writing SAELens folders: what SAELens can express of an SAE, folding into the weights what it can not say. */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PersonascopeError, toPersonascopeError } from '../../core/errors.js'
import { runNative, throwIfAborted, type TaskOptions } from '../../core/task.js'
import { writeJson } from '../../io/json.js'
import { writeSafetensors, type TensorSource } from '../../io/safetensors.js'
import { native } from '../../native.js'
import { CONFIG_FILE, SCALER_FILE, WEIGHTS_FILE, configOf } from '../config.js'
import type { SaeSpec } from '../spec.js'

export type SaeSummary = Omit<SaeSpec, 'wEnc' | 'wDec' | 'wSkip' | 'bEnc' | 'bDec'>

/** The weights, piece by piece, so that a large SAE is never held in memory. */
export interface WeightPieces {
  /** What errors call the SAE that they are of. */
  from: string
  /** Rows begin … end − 1 of W_encᵀ [dModel, latents]. */
  encoderColumns(begin: number, end: number): Float32Array
  /** Rows begin … end − 1 of W_dec [latents, dOut]. */
  decoderRows(begin: number, end: number): Float32Array
  /** [latents] */
  encoderBias(): Float32Array
  /** [dOut] */
  decoderBias(): Float32Array
  /** [dOut, dModel], of skip transcoders. */
  skip?: () => Promise<Float32Array>
}

/** Pieces of 16 MB. */
const pieceValues = 1 << 22

/**
 * Writes cfg.json and sae_weights.safetensors (fp32) into a folder, made if need be; each beside and renamed, the
 * config last. Errors: `ERR_INVALID_ARGUMENT` naming what SAELens has no word for; `ERR_NON_FINITE` naming the tensor and
 * the place; `ERR_IO`.
 */
export async function writeSaeLens(
  folder: string,
  sae: SaeSummary,
  weights: WeightPieces,
  options: TaskOptions = {},
): Promise<void> {
  throwIfAborted(options)
  const { dModel, latents } = sae
  const dOut = sae.dOut ?? dModel
  const architecture = architectureOf(sae, weights.skip !== undefined)
  // Decoder norms that only scale codes are a flag of top-k SAEs; else, like a scale of inputs, they are folded.
  const flagged =
    architecture === 'topk' &&
    sae.scaledCodes === true &&
    sae.standardise === undefined &&
    factorOfNorms(sae.selectionScale) === 1
  const codeScale = flagged ? undefined : await codeScaleOf(sae, weights, dOut, options)
  const inputScale = sae.standardise?.scale
  async function* pieces(total: number, width: number, read: (begin: number, end: number) => Float32Array) {
    const step = Math.max(1, Math.floor(pieceValues / width))
    for (let begin = 0; begin < total; begin += step) {
      throwIfAborted(options)
      yield read(begin, Math.min(total, begin + step))
    }
  }
  const finite = (name: string, values: Float32Array, place: (at: number) => string): Float32Array => {
    const at = native.firstNonFinite(values)
    if (at < 0) return values
    throw new PersonascopeError(
      'ERR_NON_FINITE',
      `${weights.from}: ${name}: found ${values[at]} in ${place(at)}`,
    )
  }
  const encoder = (begin: number, end: number): Float32Array =>
    finite(
      'W_enc',
      scaled(weights.encoderColumns(begin, end), latents, {
        columns: codeScale,
        rows: inputScale?.subarray(begin, end).map((value) => 1 / value),
      }),
      (at) => `latent ${at % latents}, dimension ${begin + Math.floor(at / latents)}`,
    )
  const decoder = (begin: number, end: number): Float32Array =>
    finite(
      'W_dec',
      scaled(weights.decoderRows(begin, end), dOut, {
        columns: inputScale,
        // A latent of scale 0 is never a code.
        rows: codeScale?.subarray(begin, end).map((value) => (value === 0 ? 0 : 1 / value)),
      }),
      (at) => `latent ${begin + Math.floor(at / dOut)}, dimension ${at % dOut}`,
    )
  const decoderBias = finite('b_dec', foldedBias(sae, weights), (at) => `dimension ${at}`)
  const tensors: TensorSource[] = [
    { name: 'W_enc', dtype: 'F32', shape: [dModel, latents], data: () => pieces(dModel, latents, encoder) },
    { name: 'W_dec', dtype: 'F32', shape: [latents, dOut], data: () => pieces(latents, dOut, decoder) },
    { name: 'b_dec', dtype: 'F32', shape: [dOut], data: decoderBias },
  ]
  const vector = (name: string, data: Float32Array): void =>
    void tensors.push({
      name,
      dtype: 'F32',
      shape: [latents],
      data: finite(name, data, (at) => `latent ${at}`),
    })
  const { selection } = sae
  if (selection.rule === 'gated') {
    vector('b_gate', selection.gateBias)
    vector('b_mag', selection.magnitudeBias)
    vector('r_mag', selection.magnitudeScale.map(Math.log))
  } else {
    vector('b_enc', scaled(weights.encoderBias(), latents, { columns: codeScale }))
    if (architecture.startsWith('jumprelu') && selection.rule === 'threshold') {
      const { threshold } = selection
      vector(
        'threshold',
        typeof threshold === 'number' ? new Float32Array(latents).fill(threshold) : threshold,
      )
    }
  }
  if (weights.skip !== undefined)
    tensors.push({
      name: 'W_skip',
      dtype: 'F32',
      shape: [dOut, dModel],
      data: finite('W_skip', await weights.skip(), (at) => `row ${Math.floor(at / dModel)}`),
    })
  try {
    await mkdir(folder, { recursive: true })
    // An older config must not describe new weights, should this be killed half-way.
    await rm(join(folder, CONFIG_FILE), { force: true })
    // Of an SAE that lay here: what it says is folded into the weights.
    await rm(join(folder, SCALER_FILE), { force: true })
  } catch (error) {
    throw toPersonascopeError(error, folder)
  }
  await writeSafetensors(join(folder, WEIGHTS_FILE), tensors, { ...options, metadata: { format: 'pt' } })
  await writeJson(
    join(folder, CONFIG_FILE),
    configOf({
      architecture,
      dModel,
      latents,
      dOut: sae.dOut,
      k: 'k' in selection ? selection.k : undefined,
      subtractDecoderBias: sae.subtractDecoderBias,
      rescaleByDecoderNorm: flagged,
      inputNorm: sae.inputNorm,
      metadata: sae.metadata,
    }),
  )
}

/** What decoder norms are multiplied with: there is one layer, of which both terms of a DecoderScale are the norm. */
function factorOfNorms(scale: SaeSummary['selectionScale']): number | undefined {
  return scale === undefined || scale instanceof Float32Array ? undefined : scale.joined + scale.added
}

async function codeScaleOf(
  { selectionScale, latents }: SaeSummary,
  weights: WeightPieces,
  dOut: number,
  options: TaskOptions,
): Promise<Float32Array | undefined> {
  if (selectionScale === undefined || selectionScale instanceof Float32Array) return selectionScale
  const factor = factorOfNorms(selectionScale)!
  const norms = new Float32Array(latents)
  const unused = new Float32Array(dOut)
  const step = Math.max(1, Math.floor(pieceValues / dOut))
  for (let begin = 0; begin < latents; begin += step) {
    throwIfAborted(options)
    const rows = weights.decoderRows(begin, Math.min(latents, begin + step))
    const products = await runNative({ signal: options.signal }, 'rows', (job) =>
      native.rowProducts(rows, dOut, unused, job),
    )
    norms.set(
      products.norms.map((norm) => factor * norm),
      begin,
    )
  }
  return norms
}

/** SAELens' name for what an SAE computes; `ERR_INVALID_ARGUMENT` where it has none. */
export function architectureOf(sae: SaeSummary, skip: boolean): string {
  const refuse = (what: string): never => {
    throw new PersonascopeError(
      'ERR_INVALID_ARGUMENT',
      `SAELens has no word for ${what} ('${sae.architecture}')`,
    )
  }
  const { selection } = sae
  if ((sae.layers ?? 1) > 1) refuse('crosscoders')
  if (selection.rule === 'groupmax') refuse('groupmax')
  if (sae.selectionScale !== undefined && sae.scaledCodes !== true)
    refuse('a selection by scaled codes whose values are not scaled')
  if (sae.standardise !== undefined) {
    const { mean } = sae.standardise
    if (sae.inputNorm !== 'none' || sae.dOut !== undefined)
      refuse('a normalisation of inputs by fixed means and scales beside another one, or of a transcoder')
    if (!sae.subtractDecoderBias && mean.some((value) => value !== 0))
      refuse('fixed means of inputs without b_dec taken from the input')
  }
  const relu =
    selection.rule === 'threshold' &&
    (typeof selection.threshold === 'number'
      ? selection.threshold === 0
      : selection.threshold.every((t) => t === 0))
  if (sae.dOut !== undefined) {
    if (selection.rule !== 'threshold') refuse(`transcoders that select by ${selection.rule}`)
    return `${relu ? '' : 'jumprelu_'}${skip ? 'skip_' : ''}transcoder`
  }
  if (skip) refuse('a skip connection beside an autoencoder')
  if (selection.rule !== 'threshold') return selection.rule
  return relu ? 'standard' : 'jumprelu'
}

/** (x − mean) / scale − b_dec = (x − (mean + scale · b_dec)) / scale, and likewise back. */
function foldedBias(sae: SaeSummary, weights: WeightPieces): Float32Array {
  const bias = weights.decoderBias()
  if (sae.standardise === undefined) return bias
  const { mean, scale } = sae.standardise
  return bias.map((value, i) => value * scale[i]! + mean[i]!)
}

/** The values [rows, width] times a factor a row and a factor a column. */
function scaled(
  values: Float32Array,
  width: number,
  factors: { rows?: Float32Array | undefined; columns?: Float32Array | undefined },
): Float32Array {
  const { rows, columns } = factors
  if (rows === undefined && columns === undefined) return values
  return values.map((value, i) => {
    const column = i % width
    return value * (rows?.[(i - column) / width] ?? 1) * (columns?.[column] ?? 1)
  })
}
