/** SAELens (https://github.com/jbloomAus/SAELens): `cfg.json` and `sae_weights.safetensors`, of any version. */
import { join } from 'node:path'
import { z } from 'zod'
import { PersonascopeError } from '../../core/errors.js'
import type { TaskOptions } from '../../core/task.js'
import { readJson } from '../../io/json.js'
import { TensorFile } from '../../io/tensor-file.js'
import {
  CONFIG_FILE,
  SCALER_FILE,
  WEIGHTS_FILE,
  configSchema,
  isCurrent,
  metadataOf,
  type SaeLensConfig,
} from '../config.js'
import { DECODER_NORMS, type InputNorm, type SaeSpec, type Selection } from '../spec.js'
import { missingFiles, type Place, type SaeFormat } from './format.js'
import { batchThreshold, refuse, requireK, requireNumber } from './weights.js'

/** SCALER_FILE: inputs were multiplied by its factor. */
const scalerSchema = z.object({ scaling_factor: z.number().positive().nullish() })

export const saelens: SaeFormat = {
  name: 'SAELens',

  async lacks(place: Place): Promise<string | undefined> {
    return missingFiles(place, [CONFIG_FILE, WEIGHTS_FILE])
  },

  async read(place: Place, options?: TaskOptions): Promise<SaeSpec> {
    const where = join(place.folder, CONFIG_FILE)
    const config = await readJson(where, configSchema)
    const file = await TensorFile.open(join(place.folder, WEIGHTS_FILE), options)
    const { d_in: dModel, d_sae: latents } = config
    const architecture = architectureOf(config, where)
    const transcoder = architecture.endsWith('transcoder')
    const dOut = transcoder ? (config.d_out ?? dModel) : dModel
    const gated = architecture === 'gated'
    const wDec = file.tensor('W_dec', [latents, dOut])
    await checkScalingFactor(file, options)
    const spec: SaeSpec = {
      dModel,
      latents,
      architecture,
      selection: await selectionOf(architecture, config, where, file, options),
      inputNorm: inputNormOf(config, where),
      // Transcoders never take b_dec from their input: it belongs to another place of the model.
      subtractDecoderBias: config.apply_b_dec_to_input && !transcoder,
      wEnc: file.tensor('W_enc', [dModel, latents]).transpose(),
      wDec,
      bEnc: gated ? new Float32Array(latents) : await file.f32('b_enc', [latents], options),
      bDec: await file.f32('b_dec', [dOut], options),
      metadata: metadataOf(config),
    }
    if (transcoder) spec.dOut = dOut
    if (architecture.endsWith('skip_transcoder')) spec.wSkip = file.tensor('W_skip', [dOut, dModel])
    // The trainers of BatchTopK rescale unless they are told not to; checkpoints keep the norms unfolded.
    if (config.rescale_acts_by_decoder_norm ?? architecture.endsWith('batchtopk')) {
      if (!architecture.endsWith('topk'))
        refuse(where, 'rescale_acts_by_decoder_norm', true, `false for architecture '${architecture}'`)
      spec.selectionScale = DECODER_NORMS
      spec.scaledCodes = true
    }
    const factor = place.names.has(SCALER_FILE)
      ? (await readJson(join(place.folder, SCALER_FILE), scalerSchema)).scaling_factor
      : undefined
    if (typeof factor === 'number')
      spec.standardise = { mean: new Float32Array(dModel), scale: new Float32Array(dModel).fill(1 / factor) }
    return spec
  },
}

const architectures = new Set([
  'standard',
  'topk',
  'jumprelu',
  'gated',
  'batchtopk',
  'matryoshka_batchtopk',
  'transcoder',
  'skip_transcoder',
  'jumprelu_transcoder',
  'jumprelu_skip_transcoder',
])

/** Before 6.0 top-k was an activation function of the standard architecture. */
function architectureOf(config: SaeLensConfig, where: string): string {
  const { architecture } = config
  if (!architectures.has(architecture))
    refuse(where, 'architecture', architecture, `one of ${[...architectures].join(', ')}`)
  if (isCurrent(config) || architecture !== 'standard') return architecture
  const k = config.activation_fn_kwargs?.k
  const activation =
    config.activation_fn_str ?? config.activation_fn ?? (typeof k === 'number' ? 'topk' : 'relu')
  if (activation === 'relu') return typeof k === 'number' ? 'topk' : 'standard'
  if (activation !== 'topk') refuse(where, 'activation_fn', activation, "'relu' or 'topk'")
  return 'topk'
}

function inputNormOf(config: SaeLensConfig, where: string): InputNorm {
  const found = config.normalize_activations
  switch (found) {
    case 'constant_norm_rescale':
    case 'layer_norm':
      return found
    case 'none':
    case 'expected_average_only_in': // folded into the weights when the run ended
    case true: // its older name
    case false:
      return 'none'
    default:
      return refuse(
        where,
        'normalize_activations',
        found,
        "'none', 'expected_average_only_in', 'constant_norm_rescale' or 'layer_norm'",
      )
  }
}

async function selectionOf(
  architecture: string,
  config: SaeLensConfig,
  where: string,
  file: TensorFile,
  options: TaskOptions | undefined,
): Promise<Selection> {
  const { d_sae: latents } = config
  const vector = (name: string): Promise<Float32Array> => file.f32(name, [latents], options)
  const { reshape_activations: reshape } = config
  // hook_z puts the heads side by side; inputs come here as rows of d_in values anyway.
  if (reshape !== undefined && reshape !== null && !['none', 'hook_z'].includes(reshape))
    refuse(where, 'reshape_activations', reshape, "'none' or 'hook_z'")
  switch (architecture) {
    case 'topk':
      return { rule: 'topk', k: requireK(where, config.k ?? config.activation_fn_kwargs?.k, latents) }
    case 'jumprelu':
    case 'jumprelu_transcoder':
    case 'jumprelu_skip_transcoder':
      // Checkpoints of a run that is not over keep what is trained: its logarithm.
      return {
        rule: 'threshold',
        threshold:
          file.tensors.has('log_threshold') && !file.tensors.has('threshold')
            ? (await vector('log_threshold')).map(Math.exp)
            : await vector('threshold'),
      }
    case 'batchtopk':
    case 'matryoshka_batchtopk':
      return batchThreshold(file.path, requireNumber(file, 'topk_threshold'))
    case 'gated':
      return {
        rule: 'gated',
        gateBias: await vector('b_gate'),
        magnitudeScale: (await vector('r_mag')).map(Math.exp),
        magnitudeBias: await vector('b_mag'),
      }
    default:
      return { rule: 'threshold', threshold: 0 }
  }
}

/** A tensor of old files, for fine-tuned decoders. */
async function checkScalingFactor(file: TensorFile, options: TaskOptions | undefined): Promise<void> {
  if (!file.tensors.has('scaling_factor')) return
  const factors = await file.f32('scaling_factor', undefined, options)
  if (factors.some((factor) => factor !== 1))
    throw new PersonascopeError('ERR_FORMAT', `${file.path}: tensor 'scaling_factor' is not all ones`, {
      hint: 'fold it into the weights with SAELens and save the SAE again',
    })
}
