import type { TaskOptions } from '../core/task.js'
import type { SteeringPlan } from '../steering/plan.js'
import type { Hook } from './hook.js'

export interface ChatMessage {
  role: 'system' | 'user' | 'assistant'
  content: string
}

/** A prompt: plain text, a chat (rendered with the model's template, generation prompt added), or token ids. */
export type Prompt = string | ChatMessage[] | Int32Array

/** Text to and from token ids. */
export interface Tokenizer {
  readonly vocabularySize: number
  encode(text: string): Int32Array
  decode(tokens: Int32Array | readonly number[]): string
  /** The text of one token. */
  token(id: number): string
  /** The id of one token, or undefined. */
  id(token: string): number | undefined
  /** Renders a chat to text with the model's template. */
  renderChat(messages: readonly ChatMessage[], options?: { addGenerationPrompt?: boolean }): string
}

/** What is said about a model's shape, whatever its family. */
export interface ModelShape {
  family: 'gpt2' | 'llama'
  /** Width of the residual stream. */
  dModel: number
  layers: number
  heads: number
  vocabularySize: number
  /** Longest sequence, tokens. */
  maxPositions: number
  parameters: number
}

/** Which tokens of each sequence: all, all after the first, only the last, or one mask (0/1) a sequence. */
export type TokenSelection = 'all' | 'after-first' | 'last' | readonly Uint8Array[]

/** Rows of a captured residual stream: row i is token `position[i]` of sequence `sequence[i]`. */
export interface CapturedActivations {
  hook: Hook
  /** [rows, dModel], row-major. */
  values: Float32Array
  rows: number
  dModel: number
  sequence: Uint32Array
  position: Uint32Array
  /** Token id of each row. */
  tokens: Int32Array
}

export interface ForwardOptions extends TaskOptions {
  steering?: SteeringPlan | undefined
  /** Tokens of each sequence that are prompt, for steering of 'prompt' or 'answer' tokens. */
  promptLengths?: readonly number[] | undefined
}

export interface CaptureOptions extends ForwardOptions {
  hook: Hook
  /** Default 'all'. */
  tokens?: TokenSelection
  /** Sequences a native call; bounds memory, never changes results. Default 64. */
  batchSize?: number
}

export interface GenerateOptions extends TaskOptions {
  steering?: SteeringPlan | undefined
  /** Default 32. */
  maxNewTokens?: number
  /** 0 is greedy (ties: lower token id). Default 1. */
  temperature?: number
  /** Nucleus: the smallest set of tokens whose probability reaches this. Default 1. */
  topP?: number
  /** Keep only the k most likely tokens; 0 keeps all. Default 0. */
  topK?: number
  /** Answers a prompt. Default 1. */
  samples?: number
  /** Sample s of prompt p is drawn from (seed, p, s): batch split and threads never change it. Default 0. */
  seed?: number
  /** Token ids that end an answer. Default: the model's end-of-text token. */
  stop?: readonly number[]
  /** Rows decoded together. Default 64. */
  batchSize?: number
}

export interface Generation {
  /** Index of the prompt and of the sample. */
  prompt: number
  sample: number
  /** The new tokens, without the stop token. */
  tokens: Int32Array
  text: string
  /** Whether a stop token ended it (else the length did). */
  stopped: boolean
  /** Log-probability (natural) of each new token under the sampling distribution at temperature 1; includes the stop token's as last entry when stopped. */
  logProbs: Float32Array
}

/**
 * A model that can be read, steered and sampled. The native transformer is the first implementation; remote
 * endpoints may offer only `generate`.
 */
export interface LanguageModel {
  readonly shape: ModelShape
  readonly tokenizer: Tokenizer
  /** Token ids of a prompt, as generation would see it. */
  encodePrompt(prompt: Prompt): Int32Array
  /** The residual stream at a hook over token sequences; rows in the order of sequences, then positions. */
  capture(sequences: readonly Int32Array[], options: CaptureOptions): Promise<CapturedActivations>
  /** Answers, ordered by prompt, then sample. */
  generate(prompts: readonly Prompt[], options?: GenerateOptions): Promise<Generation[]>
  /** ln p(token t+1 | tokens ≤ t) of each sequence: length − 1 values a sequence. */
  logProbs(sequences: readonly Int32Array[], options?: ForwardOptions): Promise<Float32Array[]>
  /** Logits of the token after each sequence: [sequences, vocabulary]. */
  nextTokenLogits(sequences: readonly Int32Array[], options?: ForwardOptions): Promise<Float32Array>
  /**
   * Gradient of the summed cross-entropy (nats, weight per target token, default all 1) with respect to the
   * residual stream at a hook; rows as in `capture` with tokens 'all'.
   */
  gradientAt(
    sequences: readonly Int32Array[],
    options: ForwardOptions & { hook: Hook; weights?: readonly Float32Array[] },
  ): Promise<CapturedActivations>
  /** The unembedding matrix [vocabulary, dModel] (a copy), for reading decoder vectors as tokens. */
  unembedding(): Float32Array
}
