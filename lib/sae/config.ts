/** SAELens' cfg.json (https://github.com/jbloomAus/SAELens), read and written. */
import { z } from 'zod'
import { hookName, parseHook, type Hook } from '../models/hook.js'

export const CONFIG_FILE = 'cfg.json'
export const WEIGHTS_FILE = 'sae_weights.safetensors'
/** Beside them in checkpoints of a run that is not over. */
export const SCALER_FILE = 'activation_scaler.json'

/** What an SAE was trained on; everything optional. */
export interface SaeMetadata {
  modelName?: string | undefined
  hook?: Hook | undefined
  datasetPath?: string | undefined
  contextSize?: number | undefined
  prependBos?: boolean | undefined
}

const described = {
  sae_lens_version: z.string().nullish(),
  model_name: z.string().nullish(),
  hook_name: z.string().nullish(),
  hook_point: z.string().nullish(),
  dataset_path: z.string().nullish(),
  context_size: z.int().min(1).nullish(),
  prepend_bos: z.boolean().nullish(),
}

/**
 * cfg.json of any version. Since 6.0 what describes the SAE lies in `metadata`; before, everything was flat. Unknown
 * fields are kept out of the way, not refused: they do not change the arithmetic.
 */
export const configSchema = z.object({
  architecture: z.string().default('standard'),
  d_in: z.int().min(1),
  d_sae: z.int().min(1),
  d_out: z.int().min(1).nullish(),
  /** BatchTopK may have a mean that is no whole number. */
  k: z.number().positive().nullish(),
  apply_b_dec_to_input: z.boolean().default(true),
  rescale_acts_by_decoder_norm: z.boolean().nullish(),
  normalize_activations: z.union([z.boolean(), z.string()]).default('none'),
  reshape_activations: z.string().nullish(),
  activation_fn_str: z.string().nullish(),
  activation_fn: z.string().nullish(),
  activation_fn_kwargs: z.object({ k: z.int().min(1).nullish() }).nullish(),
  ...described,
  metadata: z.object(described).nullish(),
})

export type SaeLensConfig = z.output<typeof configSchema>

/** Written by SAELens 6.0 or later. */
export function isCurrent(config: SaeLensConfig): boolean {
  const version = config.metadata?.sae_lens_version ?? config.sae_lens_version
  return typeof version === 'string' && Number.parseInt(version, 10) >= 6
}

export function metadataOf(config: SaeLensConfig): SaeMetadata {
  const from = config.metadata ?? config
  return {
    modelName: from.model_name ?? undefined,
    hook: hookOf(from.hook_name ?? from.hook_point),
    datasetPath: from.dataset_path ?? undefined,
    contextSize: from.context_size ?? undefined,
    prependBos: from.prepend_bos ?? undefined,
  }
}

function hookOf(name: string | null | undefined): Hook | undefined {
  if (typeof name !== 'string') return undefined
  try {
    return parseHook(name)
  } catch {
    return undefined // a hook that this package cannot capture, e.g. an MLP's output
  }
}

/** What cfg.json says of an SAE that this package writes. */
export interface WrittenConfig {
  architecture: string
  dModel: number
  latents: number
  dOut?: number | undefined
  k?: number | undefined
  subtractDecoderBias: boolean
  rescaleByDecoderNorm?: boolean
  inputNorm: string
  metadata: SaeMetadata
}

/** cfg.json as SAELens 6 writes it. */
export function configOf(written: WrittenConfig): Record<string, unknown> {
  const { metadata } = written
  return {
    architecture: written.architecture,
    d_in: written.dModel,
    d_sae: written.latents,
    ...(written.dOut === undefined ? {} : { d_out: written.dOut }),
    ...(written.k === undefined
      ? {}
      : { k: written.k, rescale_acts_by_decoder_norm: written.rescaleByDecoderNorm ?? false }),
    dtype: 'float32',
    device: 'cpu',
    apply_b_dec_to_input: written.subtractDecoderBias,
    normalize_activations: written.inputNorm,
    reshape_activations: 'none',
    metadata: {
      sae_lens_version: '6.18.0',
      sae_lens_training_version: null,
      ...(metadata.modelName === undefined ? {} : { model_name: metadata.modelName }),
      ...(metadata.hook === undefined ? {} : { hook_name: hookName(metadata.hook) }),
      ...(metadata.datasetPath === undefined ? {} : { dataset_path: metadata.datasetPath }),
      ...(metadata.contextSize === undefined ? {} : { context_size: metadata.contextSize }),
      ...(metadata.prependBos === undefined ? {} : { prepend_bos: metadata.prependBos }),
    },
  }
}
