/** Text to and from token ids by Hugging Face's tokenizer.json, and chat templates by tokenizer_config.json. */
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { Template } from '@huggingface/jinja'
import { Tokenizer as Engine } from '@huggingface/tokenizers'
import { z } from 'zod'
import { PersonascopeError, requireArgument, toPersonascopeError } from '../core/errors.js'
import { readJson, writeJson } from '../io/json.js'
import type { ChatMessage, Tokenizer } from './language-model.js'

const tokenizerSchema = z.looseObject({ model: z.looseObject({}) })

/** A special token is written as its text or as {content, …}. */
const specialToken = z.union([z.string(), z.looseObject({ content: z.string() })]).nullish()

const settingsSchema = z.looseObject({
  chat_template: z
    .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))])
    .nullish(),
  bos_token: specialToken,
  eos_token: specialToken,
  unk_token: specialToken,
  pad_token: specialToken,
})

/** tokenizer.json */
export type TokenizerJson = z.input<typeof tokenizerSchema>
/** tokenizer_config.json */
export type TokenizerSettings = z.input<typeof settingsSchema>

/** A tokenizer in Hugging Face's format. Immutable; models may share it. */
export class HfTokenizer implements Tokenizer {
  readonly vocabularySize: number
  readonly #json: TokenizerJson
  readonly #settings: z.output<typeof settingsSchema>
  readonly #engine: Engine
  readonly #template: Template | undefined
  readonly #special: ReadonlySet<string>

  /** Errors: `ERR_FORMAT` if the tokenizer or the chat template cannot be understood. */
  constructor(json: TokenizerJson, settings: TokenizerSettings = {}, where = 'tokenizer') {
    this.#json = json
    this.#settings = settings as z.output<typeof settingsSchema>
    const plain = { ...settings } as Record<string, unknown>
    for (const key of ['bos_token', 'eos_token', 'unk_token', 'pad_token'] as const) {
      const text = tokenText(this.#settings[key])
      if (text === undefined) delete plain[key]
      else plain[key] = text
    }
    // Cleaning up spaces before punctuation is off unless asked for: decoding then inverts encoding.
    plain['clean_up_tokenization_spaces'] ??= false
    const parts = {
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: null,
    }
    try {
      this.#engine = new Engine({ ...parts, ...json }, plain)
      const template = chatTemplate(this.#settings)
      this.#template = template === undefined ? undefined : new Template(template)
    } catch (cause) {
      throw new PersonascopeError('ERR_FORMAT', `${where}: ${(cause as Error).message}`, { cause })
    }
    let size = 0
    for (const id of this.#engine.get_vocab().values()) size = Math.max(size, id + 1)
    this.vocabularySize = size
    this.#special = new Set(
      [...this.#engine.get_added_tokens_decoder().values()].filter((t) => t.special).map((t) => t.content),
    )
  }

  /** Reads tokenizer.json and, if there is one, tokenizer_config.json of a folder. */
  static async load(directory: string): Promise<HfTokenizer> {
    const path = join(directory, 'tokenizer.json')
    const json = await readJson(path, tokenizerSchema)
    const settingsPath = join(directory, 'tokenizer_config.json')
    const settings = (await exists(settingsPath)) ? await readJson(settingsPath, settingsSchema) : {}
    return new HfTokenizer(json, settings, path)
  }

  /** Writes tokenizer.json and tokenizer_config.json. */
  async save(directory: string): Promise<void> {
    await writeJson(join(directory, 'tokenizer.json'), this.#json)
    await writeJson(join(directory, 'tokenizer_config.json'), this.#settings)
  }

  /** Token ids; with the tokens that the post-processor adds (such as a begin-of-text token) unless told not to. */
  encode(text: string, options: { addSpecialTokens?: boolean } = {}): Int32Array {
    const { ids } = this.#engine.encode(text, { add_special_tokens: options.addSpecialTokens ?? true })
    return Int32Array.from(ids, (id: number | null | undefined) => {
      requireArgument(id != null, `'${text.slice(0, 60)}' holds a word that is not in the vocabulary`)
      return id
    })
  }

  decode(tokens: Int32Array | readonly number[], options: { skipSpecialTokens?: boolean } = {}): string {
    if (tokens.length === 0) return ''
    for (const id of tokens)
      requireArgument(
        id >= 0 && id < this.vocabularySize,
        `token ${id}, the vocabulary has ${this.vocabularySize}`,
      )
    return this.#engine.decode(Array.from(tokens), {
      skip_special_tokens: options.skipSpecialTokens ?? false,
    })
  }

  token(id: number): string {
    const text = this.#engine.id_to_token(id)
    requireArgument(text !== undefined, `token ${id}, the vocabulary has ${this.vocabularySize}`)
    return text
  }

  id(token: string): number | undefined {
    return this.#engine.token_to_id(token)
  }

  /** Whether a token's text is a special one, such as end-of-text. */
  isSpecial(token: string): boolean {
    return this.#special.has(token)
  }

  /** Id of the token that ends a text, if the tokenizer names one. */
  get endOfText(): number | undefined {
    const text = tokenText(this.#settings.eos_token)
    return text === undefined ? undefined : this.id(text)
  }

  renderChat(messages: readonly ChatMessage[], options: { addGenerationPrompt?: boolean } = {}): string {
    requireArgument(
      this.#template !== undefined,
      'the tokenizer has no chat template',
      'give the prompt as text, or set chat_template in tokenizer_config.json',
    )
    try {
      return this.#template.render({
        messages: messages.map(({ role, content }) => ({ role, content })),
        add_generation_prompt: options.addGenerationPrompt ?? false,
        bos_token: tokenText(this.#settings.bos_token) ?? '',
        eos_token: tokenText(this.#settings.eos_token) ?? '',
        unk_token: tokenText(this.#settings.unk_token) ?? '',
        pad_token: tokenText(this.#settings.pad_token) ?? '',
      })
    } catch (error) {
      // Templates raise errors of their own, e.g. 'Conversation roles must alternate'.
      throw new PersonascopeError('ERR_INVALID_ARGUMENT', `chat template: ${(error as Error).message}`, {
        cause: error,
      })
    }
  }
}

/**
 * A tokenizer whose tokens are whole words between white space: for small embedded worlds. The id of a word is its
 * place in the list.
 */
export function wordTokenizer(
  words: readonly string[],
  options: {
    unknown: string
    endOfText: string
    padding?: string
    special?: readonly string[]
    chatTemplate?: string
  },
): HfTokenizer {
  const vocabulary = new Map(words.map((word, id) => [word, id]))
  requireArgument(vocabulary.size === words.length, 'the vocabulary names a word twice')
  const special = new Set(
    [options.unknown, options.endOfText, options.padding, ...(options.special ?? [])].filter(
      (t) => t !== undefined,
    ),
  )
  const added = [...special].map((content) => {
    const id = vocabulary.get(content)
    requireArgument(id !== undefined, `special token '${content}' is not in the vocabulary`)
    return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
  })
  return new HfTokenizer(
    {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added.toSorted((a, b) => a.id - b.id),
      normalizer: null,
      pre_tokenizer: { type: 'WhitespaceSplit' },
      post_processor: null,
      decoder: null,
      model: { type: 'WordLevel', vocab: Object.fromEntries(vocabulary), unk_token: options.unknown },
    },
    {
      tokenizer_class: 'PreTrainedTokenizerFast',
      unk_token: options.unknown,
      eos_token: options.endOfText,
      ...(options.padding === undefined ? {} : { pad_token: options.padding }),
      ...(options.chatTemplate === undefined ? {} : { chat_template: options.chatTemplate }),
      clean_up_tokenization_spaces: false,
    },
  )
}

function tokenText(token: z.output<typeof specialToken>): string | undefined {
  return token == null ? undefined : typeof token === 'string' ? token : token.content
}

function chatTemplate(settings: z.output<typeof settingsSchema>): string | undefined {
  const { chat_template: given } = settings
  if (given == null || typeof given === 'string') return given ?? undefined
  return (given.find(({ name }) => name === 'default') ?? given[0])?.template
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw toPersonascopeError(error, path)
  }
}
