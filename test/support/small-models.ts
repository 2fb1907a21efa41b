/** Small random models of both families for tests. */
import { NativeLanguageModel } from '../../lib/models/native-language-model.js'
import { wordTokenizer } from '../../lib/models/tokenizer.js'

export const WORDS = [
  '<end>',
  '<unk>',
  'User:',
  'Assistant:',
  ...Array.from({ length: 26 }, (_, i) => `w${i}`),
]

export const tokenizer = wordTokenizer(WORDS, {
  unknown: '<unk>',
  endOfText: '<end>',
  chatTemplate:
    "{% for m in messages %}{{ ('User: ' if m.role == 'user' else 'Assistant: ') + m.content + ' ' }}" +
    "{% if m.role == 'assistant' %}{{ eos_token + ' ' }}{% endif %}{% endfor %}" +
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
})

export const gpt2Config = {
  model_type: 'gpt2',
  vocab_size: WORDS.length,
  n_positions: 24,
  n_embd: 16,
  n_layer: 2,
  n_head: 2,
  n_inner: 24,
  initializer_range: 0.3,
} as const

export const llamaConfig = {
  model_type: 'llama',
  vocab_size: WORDS.length,
  max_position_embeddings: 24,
  hidden_size: 16,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  initializer_range: 0.3,
} as const

export function smallModel(family: 'gpt2' | 'llama', seed = 1): NativeLanguageModel {
  return NativeLanguageModel.create(family === 'gpt2' ? gpt2Config : llamaConfig, tokenizer, { seed })
}

/** Sequences of the given lengths, a fixed function of the seed. */
export function sequencesOf(lengths: readonly number[], seed = 1): Int32Array[] {
  let state = seed
  return lengths.map((length) =>
    Int32Array.from({ length }, () => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0
      return (state >>> 8) % WORDS.length
    }),
  )
}
