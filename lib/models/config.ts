/**
 * Hugging Face's config.json of the GPT-2 and Llama families, checked and translated. What this engine cannot do
 * is refused by the setting's name; settings that change nothing here are listed below; anything else is unknown.
 */
import { z } from 'zod'
import { PersonascopeError } from '../core/errors.js'
import type { NativeTransformerConfig } from '../native.js'

const count = z.int().positive()
const optionalCount = count.nullish()
const tokenId = z.int().min(0)

/** Settings of transformers that do not change what a model computes at inference or in this package's training. */
const harmless = new Set([
  'architectures',
  'attention_dropout',
  'attn_pdrop',
  'bos_token_id',
  'chunk_size_feed_forward',
  'dtype',
  'embd_pdrop',
  'gradient_checkpointing',
  'id2label',
  'is_decoder',
  'keys_to_ignore_at_inference',
  'label2id',
  'max_length',
  'max_window_layers',
  'n_ctx',
  'num_labels',
  'output_attentions',
  'output_hidden_states',
  'output_past',
  'pad_token_id',
  'prefix',
  'problem_type',
  'reorder_and_upcast_attn',
  'resid_pdrop',
  'return_dict',
  'summary_activation',
  'summary_first_dropout',
  'summary_proj_to_labels',
  'summary_type',
  'summary_use_proj',
  'task_specific_params',
  'torch_dtype',
  'torchscript',
  'transformers_version',
  'unk_token_id',
  'use_bfloat16',
  'use_cache',
])

const endOfText = z.union([tokenId, z.array(tokenId)]).nullish()

const gpt2Schema = z.looseObject({
  model_type: z.literal('gpt2'),
  vocab_size: count.default(50257),
  n_positions: count.default(1024),
  n_embd: count.default(768),
  n_layer: count.default(12),
  n_head: count.default(12),
  n_inner: optionalCount,
  activation_function: z.string().default('gelu_new'),
  layer_norm_epsilon: z.number().positive().default(1e-5),
  initializer_range: z.number().min(0).default(0.02),
  tie_word_embeddings: z.boolean().default(true),
  scale_attn_weights: z.boolean().default(true),
  scale_attn_by_inverse_layer_idx: z.boolean().default(false),
  add_cross_attention: z.boolean().default(false),
  eos_token_id: endOfText,
})

const ropeSchema = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: z.number().positive().optional(),
  factor: z.number().positive().optional(),
  low_freq_factor: z.number().positive().optional(),
  high_freq_factor: z.number().positive().optional(),
  original_max_position_embeddings: count.optional(),
})

const llamaSchema = z.looseObject({
  model_type: z.enum(['llama', 'mistral', 'qwen2']),
  vocab_size: count.default(32000),
  hidden_size: count.default(4096),
  intermediate_size: count.default(11008),
  num_hidden_layers: count.default(32),
  num_attention_heads: count.default(32),
  num_key_value_heads: optionalCount,
  head_dim: optionalCount,
  hidden_act: z.string().default('silu'),
  max_position_embeddings: count.default(2048),
  initializer_range: z.number().min(0).default(0.02),
  rms_norm_eps: z.number().positive().default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  rope_theta: z.number().positive().optional(),
  rope_scaling: ropeSchema.nullish(),
  rope_parameters: ropeSchema.nullish(),
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
  pretraining_tp: z.int().optional(),
  sliding_window: optionalCount,
  use_sliding_window: z.boolean().default(false),
  layer_types: z.array(z.string()).nullish(),
  eos_token_id: endOfText,
})

/** Settings of config.json, all optional but `model_type`: what is left out is as in transformers. */
export type ModelConfig = z.input<typeof gpt2Schema> | z.input<typeof llamaSchema>

/** A checked configuration: as it is saved, and as the engine takes it. */
export interface ParsedConfig {
  /** As in config.json, defaults filled in. */
  json: Record<string, unknown>
  native: NativeTransformerConfig
  family: 'gpt2' | 'llama'
  /** Token ids that end an answer. */
  endOfText: number[]
}

const activations: Readonly<Record<string, NativeTransformerConfig['activation']>> = {
  gelu_new: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  gelu: 'gelu',
  relu: 'relu',
  silu: 'silu',
  swish: 'silu',
}

/** Checks a configuration; `where` (a path) is put before error messages. Errors: `ERR_FORMAT`. */
export function parseModelConfig(value: unknown, where = 'config'): ParsedConfig {
  const refuse = (message: string): never => {
    throw new PersonascopeError('ERR_FORMAT', `${where}: ${message}`)
  }
  const given = z.looseObject({ model_type: z.string() }).safeParse(value)
  if (!given.success) return refuse("model_type: expected 'gpt2', 'llama', 'mistral' or 'qwen2'")
  const type = given.data.model_type
  if (type !== 'gpt2' && !['llama', 'mistral', 'qwen2'].includes(type))
    return refuse(`model_type '${type}' is not supported, expected 'gpt2', 'llama', 'mistral' or 'qwen2'`)

  const check = <Schema extends z.ZodObject>(schema: Schema): z.output<Schema> => {
    const result = schema.safeParse(value)
    if (!result.success) {
      const [issue] = result.error.issues
      return refuse(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not valid'}`)
    }
    for (const key of Object.keys(given.data))
      if (!(key in schema.shape) && !harmless.has(key) && !key.startsWith('_'))
        refuse(`setting '${key}' is not known to this engine`)
    return result.data
  }
  const activation = (name: string): NativeTransformerConfig['activation'] =>
    activations[name] ??
    refuse(`activation '${name}' is not supported, expected one of ${Object.keys(activations).join(', ')}`)

  if (type === 'gpt2') {
    const config = check(gpt2Schema)
    if (!config.scale_attn_weights) refuse('scale_attn_weights false is not supported')
    if (config.scale_attn_by_inverse_layer_idx)
      refuse('scale_attn_by_inverse_layer_idx true is not supported')
    if (config.add_cross_attention) refuse('add_cross_attention true is not supported')
    if (config.n_embd % config.n_head !== 0)
      refuse(`n_embd ${config.n_embd} is not a multiple of n_head ${config.n_head}`)
    return {
      json: config,
      family: 'gpt2',
      endOfText: ids(config.eos_token_id),
      native: {
        family: 0,
        vocabulary: config.vocab_size,
        width: config.n_embd,
        layers: config.n_layer,
        heads: config.n_head,
        kvHeads: config.n_head,
        headDim: config.n_embd / config.n_head,
        hidden: config.n_inner ?? 4 * config.n_embd,
        positions: config.n_positions,
        normEps: config.layer_norm_epsilon,
        activation: activation(config.activation_function),
        tied: config.tie_word_embeddings,
        qkvBias: true,
        outBias: true,
        mlpBias: true,
        ...noScaling,
        ropeTheta: 10000,
        initialStd: config.initializer_range,
      },
    }
  }

  const config = check(llamaSchema)
  if (config.pretraining_tp !== undefined && config.pretraining_tp > 1)
    refuse(`pretraining_tp ${config.pretraining_tp} is not supported, expected 1`)
  const window = type === 'qwen2' && !config.use_sliding_window ? null : config.sliding_window
  if (window != null && window < config.max_position_embeddings)
    refuse(`sliding_window ${window} is not supported, expected null`)
  if (config.layer_types?.some((kind) => kind !== 'full_attention'))
    refuse(`layer_types other than 'full_attention' are not supported`)
  const heads = config.num_attention_heads
  const headDim = config.head_dim ?? config.hidden_size / heads
  if (!Number.isInteger(headDim))
    refuse(`hidden_size ${config.hidden_size} is not a multiple of num_attention_heads ${heads}`)
  const rope = config.rope_parameters ?? config.rope_scaling
  const attentionBias = type === 'qwen2' || config.attention_bias
  return {
    json: config,
    family: 'llama',
    endOfText: ids(config.eos_token_id),
    native: {
      family: 1,
      vocabulary: config.vocab_size,
      width: config.hidden_size,
      layers: config.num_hidden_layers,
      heads,
      kvHeads: config.num_key_value_heads ?? heads,
      headDim,
      hidden: config.intermediate_size,
      positions: config.max_position_embeddings,
      normEps: config.rms_norm_eps,
      activation: activation(config.hidden_act),
      tied: config.tie_word_embeddings,
      qkvBias: attentionBias,
      outBias: type === 'qwen2' ? false : attentionBias,
      mlpBias: config.mlp_bias,
      ...ropeScaling(rope, config.max_position_embeddings, refuse),
      ropeTheta: config.rope_parameters?.rope_theta ?? config.rope_theta ?? 10000,
      initialStd: config.initializer_range,
    },
  }
}

const noScaling = {
  ropeScaling: 0,
  ropeFactor: 1,
  ropeLowFreqFactor: 1,
  ropeHighFreqFactor: 4,
  ropeOriginalPositions: 8192,
} as const

function ropeScaling(
  rope: z.output<typeof ropeSchema> | null | undefined,
  positions: number,
  refuse: (message: string) => never,
): Pick<NativeTransformerConfig, keyof typeof noScaling> {
  const kind = rope?.rope_type ?? rope?.type ?? 'default'
  if (rope == null || kind === 'default') return noScaling
  const need = (name: 'factor' | 'low_freq_factor' | 'high_freq_factor'): number =>
    rope[name] ?? refuse(`rope_scaling.${name} is missing`)
  if (kind === 'linear') return { ...noScaling, ropeScaling: 1, ropeFactor: need('factor') }
  if (kind === 'llama3')
    return {
      ropeScaling: 2,
      ropeFactor: need('factor'),
      ropeLowFreqFactor: need('low_freq_factor'),
      ropeHighFreqFactor: need('high_freq_factor'),
      ropeOriginalPositions: rope.original_max_position_embeddings ?? positions,
    }
  return refuse(`rope_scaling '${kind}' is not supported, expected 'default', 'linear' or 'llama3'`)
}

function ids(value: number | number[] | null | undefined): number[] {
  return value == null ? [] : typeof value === 'number' ? [value] : value
}
