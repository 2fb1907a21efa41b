import { describe, expect, test } from 'vitest'
import { parseModelConfig } from '../../lib/models/config.js'

// As published with the models, shortened of nothing.
const gpt2 = {
  activation_function: 'gelu_new',
  architectures: ['GPT2LMHeadModel'],
  attn_pdrop: 0.1,
  bos_token_id: 50256,
  embd_pdrop: 0.1,
  eos_token_id: 50256,
  initializer_range: 0.02,
  layer_norm_epsilon: 1e-5,
  model_type: 'gpt2',
  n_ctx: 1024,
  n_embd: 768,
  n_head: 12,
  n_layer: 12,
  n_positions: 1024,
  resid_pdrop: 0.1,
  summary_activation: null,
  summary_first_dropout: 0.1,
  summary_proj_to_labels: true,
  summary_type: 'cls_index',
  summary_use_proj: true,
  task_specific_params: { 'text-generation': { do_sample: true, max_length: 50 } },
  vocab_size: 50257,
}

const llama = {
  architectures: ['LlamaForCausalLM'],
  attention_bias: false,
  attention_dropout: 0.0,
  bos_token_id: 128000,
  eos_token_id: [128001, 128008, 128009],
  head_dim: 64,
  hidden_act: 'silu',
  hidden_size: 2048,
  initializer_range: 0.02,
  intermediate_size: 8192,
  max_position_embeddings: 131072,
  mlp_bias: false,
  model_type: 'llama',
  num_attention_heads: 32,
  num_hidden_layers: 16,
  num_key_value_heads: 8,
  pretraining_tp: 1,
  rms_norm_eps: 1e-5,
  rope_scaling: {
    factor: 32.0,
    high_freq_factor: 4.0,
    low_freq_factor: 1.0,
    original_max_position_embeddings: 8192,
    rope_type: 'llama3',
  },
  rope_theta: 500000.0,
  tie_word_embeddings: true,
  torch_dtype: 'bfloat16',
  transformers_version: '4.45.0.dev0',
  use_cache: true,
  vocab_size: 128256,
}

describe('published configurations', () => {
  test('GPT-2', () => {
    const { native, family, endOfText } = parseModelConfig(gpt2)
    expect(family).toBe('gpt2')
    expect(endOfText).toEqual([50256])
    expect(native).toMatchObject({
      width: 768,
      hidden: 3072,
      headDim: 64,
      kvHeads: 12,
      activation: 'gelu_tanh',
    })
    expect(native).toMatchObject({ tied: true, qkvBias: true, positions: 1024 })
  })

  test('Llama 3.2', () => {
    const { native, family, endOfText } = parseModelConfig(llama)
    expect(family).toBe('llama')
    expect(endOfText).toEqual([128001, 128008, 128009])
    expect(native).toMatchObject({
      kvHeads: 8,
      headDim: 64,
      ropeScaling: 2,
      ropeFactor: 32,
      ropeTheta: 500000,
    })
    expect(native).toMatchObject({ tied: true, qkvBias: false, ropeOriginalPositions: 8192 })
  })

  test('Qwen 2 has biases on queries, keys and values only', () => {
    const { native } = parseModelConfig({
      ...llama,
      model_type: 'qwen2',
      rope_scaling: null,
      sliding_window: 4096,
      use_sliding_window: false,
      max_window_layers: 21,
    })
    expect(native).toMatchObject({ qkvBias: true, outBias: false, mlpBias: false, ropeScaling: 0 })
  })
})

test.each([
  [{ model_type: 'bert' }, /model_type 'bert'/],
  [{}, /model_type/],
  [{ ...gpt2, activation_function: 'mish' }, /activation 'mish'/],
  [{ ...gpt2, scale_attn_by_inverse_layer_idx: true }, /scale_attn_by_inverse_layer_idx/],
  [{ ...gpt2, n_head: 11 }, /n_embd 768 is not a multiple of n_head 11/],
  [{ ...gpt2, n_layer: 0 }, /n_layer/],
  [{ ...gpt2, n_experts: 8 }, /'n_experts'/],
  [{ ...llama, rope_scaling: { rope_type: 'yarn', factor: 2 } }, /'yarn'/],
  [{ ...llama, rope_scaling: { rope_type: 'llama3', factor: 2 } }, /low_freq_factor is missing/],
  [{ ...llama, model_type: 'mistral', sliding_window: 4096 }, /sliding_window 4096/],
  [{ ...llama, pretraining_tp: 2 }, /pretraining_tp 2/],
  [{ ...llama, hidden_size: 'wide' }, /hidden_size/],
])('a setting that is not supported is refused by name: %#', (config, message) => {
  expect(() => parseModelConfig(config, 'some/config.json')).toThrow(message)
  expect(() => parseModelConfig(config, 'some/config.json')).toThrow(/^some\/config\.json: /)
})
