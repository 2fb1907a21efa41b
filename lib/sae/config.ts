/** SAELens' cfg.json (https://github.com/jbloomAus/SAELens), as far as TopK autoencoders need it. */
import { z } from 'zod'
import { PersonascopeError } from '../core/errors.js'
import { hookName, parseHook, type Hook } from '../models/hook.js'

export const CONFIG_FILE = 'cfg.json'
export const WEIGHTS_FILE = 'sae_weights.safetensors'

/** What an SAE was trained on; everything optional. */
export interface SaeMetadata {
  modelName?: string | undefined
  hook?: Hook | undefined
  datasetPath?: string | undefined
  contextSize?: number | undefined
  prependBos?: boolean | undefined
}

/** The fields that decide what an SAE computes. */
export interface SaeSettings {
  dModel: number
  latents: number
  k: number
  /** b_dec is subtracted from the input first. */
  subtractDecoderBias: boolean
  /** Latents are chosen by value × ‖decoder vector‖. */
  rescaleByDecoderNorm: boolean
  metadata: SaeMetadata
}

const optional = <Schema extends z.ZodType>(schema: Schema) => schema.nullish()

/** SAELens 6 and later. Unknown fields are kept out of the way, not refused: they do not change the arithmetic. */
const current = z.object({
  architecture: z.string(),
  d_in: z.int().min(1),
  d_sae: z.int().min(1),
  k: z.int().min(1),
  apply_b_dec_to_input: z.boolean().default(true),
  rescale_acts_by_decoder_norm: z.boolean().default(false),
  normalize_activations: z.string().default('none'),
  reshape_activations: z.string().default('none'),
  metadata: optional(
    z.object({
      sae_lens_version: optional(z.string()),
      model_name: optional(z.string()),
      hook_name: optional(z.string()),
      dataset_path: optional(z.string()),
      context_size: optional(z.int().min(1)),
      prepend_bos: optional(z.boolean()),
    }),
  ),
})

/** Before 6.0: flat, top-k as an activation function. */
const flat = z.object({
  architecture: z.string().default('standard'),
  d_in: z.int().min(1),
  d_sae: z.int().min(1),
  activation_fn_str: optional(z.string()),
  activation_fn: optional(z.string()),
  activation_fn_kwargs: optional(z.object({ k: optional(z.int().min(1)) })),
  apply_b_dec_to_input: z.boolean().default(true),
  normalize_activations: z.union([z.boolean(), z.string()]).default('none'),
  model_name: optional(z.string()),
  hook_point: optional(z.string()),
  hook_name: optional(z.string()),
  dataset_path: optional(z.string()),
  context_size: optional(z.int().min(1)),
  prepend_bos: optional(z.boolean()),
})

/** cfg.json of either generation: newer ones carry `metadata` or a `k` of their own. */
export const configSchema = z.union([current, flat])

export type SaeLensConfig = z.infer<typeof configSchema>

function refuse(where: string, field: string, found: unknown, expected: string): never {
  throw new PersonascopeError(
    'ERR_FORMAT',
    `${where}: ${field} is '${String(found)}', expected ${expected}`,
    {
      hint: 'only TopK autoencoders without run-time normalisation are read so far',
    },
  )
}

function hookOf(name: string | null | undefined): Hook | undefined {
  if (typeof name !== 'string') return undefined
  try {
    return parseHook(name)
  } catch {
    return undefined // a hook that this package cannot capture, e.g. an MLP's output
  }
}

/** Settings of a parsed cfg.json; `where` names the file in errors. */
export function settingsOf(config: SaeLensConfig, where: string): SaeSettings {
  const shared = {
    dModel: config.d_in,
    latents: config.d_sae,
    subtractDecoderBias: config.apply_b_dec_to_input,
  }
  // A run-time no-op, as SAELens documents it.
  const harmless = new Set<unknown>(['none', 'expected_average_only_in', true, false])
  if (!harmless.has(config.normalize_activations))
    refuse(
      where,
      'normalize_activations',
      config.normalize_activations,
      "'none' or 'expected_average_only_in'",
    )
  if ('k' in config) {
    if (config.architecture !== 'topk') refuse(where, 'architecture', config.architecture, "'topk'")
    if (config.reshape_activations !== 'none')
      refuse(where, 'reshape_activations', config.reshape_activations, "'none'")
    const { metadata } = config
    return checked(where, {
      ...shared,
      k: config.k,
      rescaleByDecoderNorm: config.rescale_acts_by_decoder_norm,
      metadata: {
        modelName: metadata?.model_name ?? undefined,
        hook: hookOf(metadata?.hook_name),
        datasetPath: metadata?.dataset_path ?? undefined,
        contextSize: metadata?.context_size ?? undefined,
        prependBos: metadata?.prepend_bos ?? undefined,
      },
    })
  }
  const k = config.activation_fn_kwargs?.k
  const activation =
    config.activation_fn_str ?? config.activation_fn ?? (typeof k === 'number' ? 'topk' : 'relu')
  if (typeof k !== 'number' || activation !== 'topk')
    refuse(where, 'architecture', `${config.architecture} with activation ${activation}`, 'topk with k')
  return checked(where, {
    ...shared,
    k,
    rescaleByDecoderNorm: false,
    metadata: {
      modelName: config.model_name ?? undefined,
      hook: hookOf(config.hook_name ?? config.hook_point),
      datasetPath: config.dataset_path ?? undefined,
      contextSize: config.context_size ?? undefined,
      prependBos: config.prepend_bos ?? undefined,
    },
  })
}

function checked(where: string, settings: SaeSettings): SaeSettings {
  if (settings.k > settings.latents) refuse(where, 'k', settings.k, `at most the ${settings.latents} latents`)
  return settings
}

/** cfg.json as SAELens 6 writes it. */
export function configOf(settings: SaeSettings): Record<string, unknown> {
  const { metadata } = settings
  return {
    architecture: 'topk',
    d_in: settings.dModel,
    d_sae: settings.latents,
    k: settings.k,
    dtype: 'float32',
    device: 'cpu',
    apply_b_dec_to_input: settings.subtractDecoderBias,
    rescale_acts_by_decoder_norm: settings.rescaleByDecoderNorm,
    normalize_activations: 'none',
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
