/** From chats to training sequences: which tokens are learned, and in which order batches come. */
import { requireArgument } from '../core/errors.js'
import { Random } from '../core/random.js'
import type { ChatMessage } from '../models/language-model.js'
import type { HfTokenizer } from '../models/tokenizer.js'

/** A token sequence with the loss weight of each token after the first. */
export interface TrainingExample {
  tokens: Int32Array
  /** Length − 1 values: entry t weighs the prediction of token t + 1. */
  weights: Float32Array
}

export interface ChatExampleOptions {
  /** Weight of a token of the assistant's answers. Default 1 each. */
  tokenWeight?: (token: number, text: string) => number
  /** Learn the tokens that the template puts after an answer (such as end-of-turn) too. Default true. */
  learnEnd?: boolean
}

/**
 * Renders chats with the tokenizer's template; the loss is on the assistant's answers only. Errors:
 * `ERR_INVALID_ARGUMENT` if a chat has no answer, or the template does not render a longer chat as a continuation of
 * the shorter one (then answers cannot be told apart).
 */
export function chatTrainingExamples(
  tokenizer: HfTokenizer,
  examples: readonly { messages: readonly ChatMessage[] }[],
  options: ChatExampleOptions = {},
): TrainingExample[] {
  return examples.map(({ messages }, index) => {
    const encode = (text: string): Int32Array => tokenizer.encode(text, { addSpecialTokens: false })
    const tokens = encode(tokenizer.renderChat(messages))
    const weights = new Float32Array(Math.max(0, tokens.length - 1))
    let answers = 0
    for (const [m, message] of messages.entries()) {
      if (message.role !== 'assistant') continue
      const prompt = encode(tokenizer.renderChat(messages.slice(0, m), { addGenerationPrompt: true }))
      const whole = encode(tokenizer.renderChat(messages.slice(0, m + 1)))
      requireArgument(
        isPrefix(prompt, whole) && isPrefix(whole, tokens),
        `example ${index}: the chat template does not render its messages one after the other, so its answers cannot be found`,
      )
      const end = options.learnEnd === false ? prompt.length + encode(message.content).length : whole.length
      for (let t = prompt.length; t < Math.min(end, whole.length); t++) {
        const token = tokens[t] as number
        weights[t - 1] = options.tokenWeight?.(token, tokenizer.token(token)) ?? 1
      }
      answers++
    }
    requireArgument(answers > 0, `example ${index} has no answer of the assistant`)
    return { tokens, weights }
  })
}

function isPrefix(start: Int32Array, whole: Int32Array): boolean {
  return start.length <= whole.length && start.every((token, i) => token === whole[i])
}

/**
 * The seeded order in which examples come: a fresh shuffle every epoch, batches running on over its end. Any step's
 * batch can be had directly, so a resumed run goes on with the same data.
 */
export class BatchOrder {
  readonly #count: number
  readonly #batchSize: number
  readonly #random: Random
  #epoch = -1
  #order: number[] = []

  constructor(count: number, batchSize: number, seed: number) {
    requireArgument(count > 0, 'there are no examples')
    requireArgument(
      Number.isInteger(batchSize) && batchSize > 0,
      `batch size is ${batchSize}, expected a whole number of at least 1`,
    )
    this.#count = count
    this.#batchSize = batchSize
    this.#random = new Random(seed)
  }

  /** Indices of the examples of step `step`, counted from 0. */
  batch(step: number): number[] {
    return Array.from({ length: this.#batchSize }, (_, i) => {
      const at = step * this.#batchSize + i
      const epoch = Math.floor(at / this.#count)
      if (epoch !== this.#epoch) {
        this.#epoch = epoch
        this.#order = this.#random.fork(`epoch ${epoch}`).shuffle([...Array(this.#count).keys()])
      }
      return this.#order[at % this.#count] as number
    })
  }
}
