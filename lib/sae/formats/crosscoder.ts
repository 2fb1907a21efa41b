/**
 * Crosscoders of the science-of-finetuning fork of dictionary_learning: `model.safetensors` and `config.json`, or one
 * `.pt`. The layers (of one model, or the same layer of several models) stand side by side: inputs are [layers × d].
 */
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { PersonascopeError } from '../../core/errors.js'
import { callNative, type TaskOptions } from '../../core/task.js'
import { readJson } from '../../io/json.js'
import { TensorFile } from '../../io/tensor-file.js'
import { DECODER_NORMS, type DecoderScale, type SaeSpec } from '../spec.js'
import { fileWithEnding, type Place, type SaeFormat } from './format.js'
import { batchThreshold, numberIn, refuse, rowNorms } from './weights.js'

const FILE = 'model.safetensors'

const schema = z.object({
  dict_class: z.string().nullish(),
  keep_relative_variance: z.boolean().nullish(),
  code_normalization_alpha_sae: z.number().nullish(),
  code_normalization_alpha_cc: z.number().nullish(),
})
type Config = z.infer<typeof schema>

/** code_normalization_id */
const normalisations = ['none', 'crosscoder', 'sae', 'mixed', 'none', 'decoupled'] as const
type CodeNormalisation = (typeof normalisations)[number]

export const crosscoder: SaeFormat = {
  name: 'crosscoder',

  async lacks(place: Place): Promise<string | undefined> {
    const path = fileOf(place)
    if (path === undefined) return 'model.safetensors or a single .pt file'
    const file = await TensorFile.open(path)
    const three = ['encoder.weight', 'decoder.weight'].every(
      (name) => file.tensors.get(name)?.shape.length === 3,
    )
    return three ? undefined : 'tensors encoder.weight and decoder.weight of three dimensions'
  },

  async read(place: Place, options?: TaskOptions): Promise<SaeSpec> {
    const path = fileOf(place)!
    const file = await TensorFile.open(path, options)
    const config = await configOf(path)
    const [layers, d, latents] = file.tensor('encoder.weight').shape as [number, number, number]
    const width = layers * d
    const decoder = file.tensor('decoder.weight', [layers, latents, d])
    const normalisation = normalisationOf(file)
    const batch = file.tensors.has('threshold')
    const spec: SaeSpec = {
      dModel: width,
      latents,
      layers,
      architecture: config.dict_class ?? (batch ? 'BatchTopKCrossCoder' : 'CrossCoder'),
      selection: { rule: 'threshold', threshold: 0 },
      inputNorm: 'none',
      subtractDecoderBias: false,
      wEnc: callNative(() => file.tensor('encoder.weight').reshape([width, latents]).transpose()),
      wDec: callNative(() => (layers === 1 ? decoder.reshape([latents, d]) : decoder.permute([1, 0, 2]))),
      bEnc: await file.f32('encoder.bias', [latents], options),
      bDec: await file.f32('decoder.bias', [layers, d], options),
      metadata: {},
    }
    if (batch) Object.assign(spec, await selectionOf(file, normalisation, layers, latents, config, options))
    const standardise = await normaliserOf(file, width, [layers, d], config, options)
    if (standardise !== undefined) spec.standardise = standardise
    return spec
  },
}

function fileOf(place: Place): string | undefined {
  if (place.file !== undefined) return fileWithEnding(place, ['.safetensors', '.pt'])
  return place.names.has(FILE) ? join(place.folder, FILE) : fileWithEnding(place, ['.pt'])
}

async function configOf(path: string): Promise<Config> {
  try {
    return await readJson(join(dirname(path), 'config.json'), schema)
  } catch (error) {
    if (error instanceof PersonascopeError && error.code === 'ERR_NOT_FOUND') return {}
    throw error
  }
}

function normalisationOf(file: TensorFile): CodeNormalisation {
  const id = numberIn(file, 'code_normalization_id') ?? 1
  return normalisations[id] ?? refuse(file.path, 'code_normalization_id', id, 'a number from 1 to 5')
}

/** A threshold sees codes that are scaled by decoder norms. Without one nothing depends on the scale. */
async function selectionOf(
  file: TensorFile,
  normalisation: CodeNormalisation,
  layers: number,
  latents: number,
  config: Config,
  options: TaskOptions | undefined,
): Promise<Pick<SaeSpec, 'selection' | 'selectionScale' | 'layerGates'>> {
  const decoupled = normalisation === 'decoupled'
  const thresholds = await file.f32('threshold', decoupled ? [layers] : undefined, options)
  if (!decoupled && thresholds.length !== 1)
    refuse(file.path, 'threshold', `${thresholds.length} values`, 'one, as codes are not decoupled')
  const [selection] = Array.from(thresholds, (threshold) => batchThreshold(file.path, threshold))
  if (normalisation === 'none') return { selection: selection! }
  if (!decoupled) return { selection: selection!, selectionScale: scaleOf(file.path, normalisation, config) }
  const decoder = file.tensor('decoder.weight')
  const norms = await rowNorms(
    callNative(() => decoder.reshape([layers * latents, decoder.shape[2]!])),
    options,
  )
  // The library gives a latent one code a layer. They are equal where they are not 0: here it is one code, there if any
  // layer has it, and decoding asks again for each layer.
  return { ...anyLayer(norms, thresholds, latents), layerGates: { norms, thresholds } }
}

/** h × norm > threshold in any layer: in that of the largest norm / threshold. */
function anyLayer(
  norms: Float32Array,
  thresholds: Float32Array,
  latents: number,
): Pick<SaeSpec, 'selection' | 'selectionScale'> {
  const threshold = new Float32Array(latents).fill(thresholds[0]!)
  const selectionScale = norms.slice(0, latents)
  for (let layer = 1; layer < thresholds.length; layer++)
    for (let latent = 0; latent < latents; latent++) {
      const norm = norms[layer * latents + latent]!
      if (norm * threshold[latent]! <= selectionScale[latent]! * thresholds[layer]!) continue
      threshold[latent] = thresholds[layer]!
      selectionScale[latent] = norm
    }
  return { selection: { rule: 'threshold', threshold }, selectionScale }
}

function scaleOf(
  path: string,
  normalisation: Exclude<CodeNormalisation, 'none' | 'decoupled'>,
  config: Config,
): DecoderScale {
  if (normalisation === 'crosscoder') return { joined: 0, added: 1 }
  if (normalisation === 'sae') return DECODER_NORMS
  const joined = config.code_normalization_alpha_sae ?? 1
  const added = config.code_normalization_alpha_cc ?? 0.1
  if (!(joined >= 0 && added >= 0 && joined + added > 0))
    refuse(path, 'code_normalization_alpha_sae, _cc', `${joined}, ${added}`, 'at least 0, and one above')
  return { joined, added }
}

/**
 * (x − mean) · activation_global_scale, which keeps the dimensions' relative variances, or (x − mean) / (std + 1e-8)
 * dimension by dimension, where that scale is the placeholder 1. NaN stands for no normalisation.
 */
async function normaliserOf(
  file: TensorFile,
  width: number,
  shape: readonly number[],
  config: Config,
  options: TaskOptions | undefined,
): Promise<SaeSpec['standardise']> {
  if (!file.tensors.has('activation_mean') || !file.tensors.has('activation_std')) return undefined
  const mean = await file.f32('activation_mean', shape, options)
  const std = await file.f32('activation_std', shape, options)
  if (mean.some(Number.isNaN) || std.some(Number.isNaN)) return undefined
  const global = numberIn(file, 'activation_global_scale') ?? 1
  const relative = config.keep_relative_variance ?? global !== 1
  if (relative && !(global > 0)) refuse(file.path, 'activation_global_scale', global, 'a number above 0')
  return {
    mean,
    scale: relative ? new Float32Array(width).fill(1 / global) : std.map((value) => value + 1e-8),
  }
}
