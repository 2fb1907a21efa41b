/** `LanguageModel` as users import it: the interface, and ways to get one. */
import type { TaskOptions } from '../core/task.js'
import type { ModelConfig } from './config.js'
import type { LanguageModel as Contract } from './language-model.js'
import { NativeLanguageModel } from './native-language-model.js'
import type { HfTokenizer } from './tokenizer.js'

export type LanguageModel = Contract

export const LanguageModel = {
  /** Reads a Hugging Face folder (GPT-2, Llama, Mistral, Qwen 2): see {@link NativeLanguageModel.load}. */
  load(directory: string, options?: TaskOptions): Promise<NativeLanguageModel> {
    return NativeLanguageModel.load(directory, options)
  },
  /** A fresh model of a configuration: see {@link NativeLanguageModel.create}. */
  create(config: ModelConfig, tokenizer: HfTokenizer, options: { seed: number }): NativeLanguageModel {
    return NativeLanguageModel.create(config, tokenizer, options)
  },
}
