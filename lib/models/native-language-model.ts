/** The transformer that runs in this process (native/transformer), as a LanguageModel. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { PersonascopeError, requireArgument } from '../core/errors.js'
import { callNative, runNative, throwIfAborted, type TaskOptions } from '../core/task.js'
import { writeJson } from '../io/json.js'
import { writeSafetensors } from '../io/safetensors.js'
import { native, type NativeBatch, type NativeParameter, type NativeTransformer } from '../native.js'
import { readAdapterConfig, writeAdapter, type AdapterConfig } from './adapter.js'
import { parseModelConfig, type ModelConfig, type ParsedConfig } from './config.js'
import type { Hook } from './hook.js'
import type {
  CapturedActivations,
  CaptureOptions,
  ForwardOptions,
  GenerateOptions,
  Generation,
  LanguageModel,
  ModelShape,
  Prompt,
} from './language-model.js'
import { nativeHook, nativeInterventions, packSequences, packWeights, selectTokens } from './packing.js'
import { HfTokenizer } from './tokenizer.js'
import { readModelConfig, weightFiles } from './folder.js'

/** A parameter of a model under its Hugging Face name. */
export interface Parameter {
  readonly name: string
  readonly shape: readonly number[]
  /** The model's own memory, row-major: call `weightsChanged` after writing to it. */
  readonly values: Float32Array
}

export class NativeLanguageModel implements LanguageModel {
  readonly shape: ModelShape
  readonly tokenizer: HfTokenizer
  /** The configuration as config.json holds it. */
  readonly config: Readonly<Record<string, unknown>>
  /** For lib/finetuning. */
  readonly native: NativeTransformer
  readonly #parsed: ParsedConfig
  #parameters: Map<string, Parameter> | undefined
  #adapter: AdapterConfig | undefined

  private constructor(parsed: ParsedConfig, tokenizer: HfTokenizer) {
    const { native: config } = parsed
    requireArgument(
      tokenizer.vocabularySize <= config.vocabulary,
      `the tokenizer has ${tokenizer.vocabularySize} tokens, the model's vocabulary ${config.vocabulary}`,
    )
    this.#parsed = parsed
    this.config = parsed.json
    this.tokenizer = tokenizer
    this.native = callNative(() => new native.Transformer(config))
    this.shape = {
      family: parsed.family,
      dModel: config.width,
      layers: config.layers,
      heads: config.heads,
      vocabularySize: config.vocabulary,
      maxPositions: config.positions,
      parameters: this.native.parameters().reduce((sum, { size }) => sum + size, 0),
    }
  }

  /**
   * A fresh model with GPT-2's initialisation (normal, `initializer_range`; output projections scaled by
   * 1/√(2 layers)). The same seed gives the same bits.
   */
  static create(config: ModelConfig, tokenizer: HfTokenizer, options: { seed: number }): NativeLanguageModel {
    const model = new NativeLanguageModel(parseModelConfig(config), tokenizer)
    callNative(() => model.native.initialise(options.seed))
    return model
  }

  /**
   * Reads a Hugging Face folder: config.json, model.safetensors or its shards, tokenizer.json. Errors name the
   * file and what in it is wrong.
   */
  static async load(directory: string, options: TaskOptions = {}): Promise<NativeLanguageModel> {
    throwIfAborted(options)
    const parsed = await readModelConfig(directory)
    const tokenizer = await HfTokenizer.load(directory)
    const files = await weightFiles(directory)
    const model = new NativeLanguageModel(parsed, tokenizer)
    await runNative(options, 'values', (job) => model.native.load(files, job))
    return model
  }

  /** Writes config.json, model.safetensors (F32) and the tokenizer's files. Adapters are saved by `saveAdapter`. */
  async save(directory: string, options: TaskOptions = {}): Promise<void> {
    await mkdir(directory, { recursive: true })
    throwIfAborted(options)
    const tensors = this.parameters().map(({ name, shape, values }) => ({
      name,
      dtype: 'F32' as const,
      shape,
      data: values,
    }))
    await writeSafetensors(join(directory, 'model.safetensors'), tensors, {
      ...options,
      metadata: { format: 'pt' },
    })
    await this.tokenizer.save(directory)
    await writeJson(join(directory, 'config.json'), {
      ...this.#parsed.json,
      architectures: [this.#parsed.family === 'gpt2' ? 'GPT2LMHeadModel' : architecture(this.#parsed.json)],
      torch_dtype: 'float32',
    })
  }

  /** A model with its own copy of the weights and adapters; the tokenizer is shared. */
  clone(): NativeLanguageModel {
    const copy = new NativeLanguageModel(this.#parsed, this.tokenizer)
    callNative(() => copy.native.copyFrom(this.native))
    copy.#adapter = this.#adapter
    return copy
  }

  /** Every parameter, without adapters, in the order of the checkpoint. */
  parameters(): Parameter[] {
    return [...this.#byName().values()]
  }

  /** Hugging Face names of all parameters. */
  parameterNames(): string[] {
    return [...this.#byName().keys()]
  }

  /** One parameter; `ERR_NOT_FOUND` if the model has none of that name. */
  parameter(name: string): Parameter {
    const found = this.#byName().get(name)
    if (found === undefined)
      throw new PersonascopeError('ERR_NOT_FOUND', `the model has no parameter '${name}'`)
    return found
  }

  /** To be called after values of parameters were written to. */
  weightsChanged(): void {
    callNative(() => this.native.changed())
  }

  encodePrompt(prompt: Prompt): Int32Array {
    if (prompt instanceof Int32Array) return prompt
    if (typeof prompt === 'string') return this.tokenizer.encode(prompt)
    // The template writes special tokens itself.
    return this.tokenizer.encode(this.tokenizer.renderChat(prompt, { addGenerationPrompt: true }), {
      addSpecialTokens: false,
    })
  }

  async capture(sequences: readonly Int32Array[], options: CaptureOptions): Promise<CapturedActivations> {
    const { hook } = options
    if (sequences.length === 0) return this.#rows(hook, sequences, undefined, new Float32Array(0))
    const mask = selectTokens(sequences, options.tokens)
    const { captured } = await runNative(options, 'sequences', (job) =>
      this.native.forward(
        {
          ...this.#batch(sequences, options),
          capture: this.#hook(hook),
          ...(mask === undefined ? {} : { mask }),
          logProbs: false,
          lastLogits: false,
        },
        job,
      ),
    )
    return this.#rows(hook, sequences, mask, captured as Float32Array)
  }

  async generate(prompts: readonly Prompt[], options: GenerateOptions = {}): Promise<Generation[]> {
    const samples = options.samples ?? 1
    requireArgument(Number.isInteger(samples) && samples >= 1, `samples is ${samples}, expected at least 1`)
    if (prompts.length === 0) return []
    const encoded = prompts.map((prompt) => this.encodePrompt(prompt))
    const rows = prompts.length * samples
    const rowPrompt = new Uint32Array(rows)
    const rowStream = new BigUint64Array(rows)
    for (let row = 0; row < rows; row++) {
      const prompt = Math.floor(row / samples)
      rowPrompt[row] = prompt
      rowStream[row] = (BigInt(prompt) << 32n) | BigInt(row % samples)
    }
    const stop = options.stop ?? this.endOfText
    const result = await runNative(options, 'answers', (job) =>
      this.native.sample(
        {
          ...packSequences(encoded),
          interventions: nativeInterventions(options.steering, this.shape.dModel, true),
          rowPrompt,
          rowStream,
          seed: options.seed ?? 0,
          maxNewTokens: options.maxNewTokens ?? 32,
          temperature: options.temperature ?? 1,
          topP: options.topP ?? 1,
          topK: options.topK ?? 0,
          stop: Int32Array.from(stop),
          batchRows: options.batchSize ?? 64,
        },
        job,
      ),
    )
    return Array.from({ length: rows }, (_, row) => {
      const start = row * result.stride
      const length = result.lengths[row] as number
      const stopped = result.stopped[row] === 1
      const tokens = result.tokens.slice(start, start + length)
      return {
        prompt: rowPrompt[row] as number,
        sample: row % samples,
        tokens,
        text: this.tokenizer.decode(tokens, { skipSpecialTokens: true }),
        stopped,
        logProbs: result.logProbs.slice(start, start + length + (stopped ? 1 : 0)),
      }
    })
  }

  async logProbs(sequences: readonly Int32Array[], options: ForwardOptions = {}): Promise<Float32Array[]> {
    if (sequences.length === 0) return []
    const { logProbs } = await runNative(options, 'sequences', (job) =>
      this.native.forward({ ...this.#batch(sequences, options), logProbs: true, lastLogits: false }, job),
    )
    let offset = 0
    return sequences.map(({ length }) => {
      const own = (logProbs as Float32Array).slice(offset, offset + length - 1)
      offset += length
      return own
    })
  }

  /**
   * Mean cross-entropy (nats a target token) and the sum of its weights. weights: length − 1 values a sequence,
   * default all 1.
   */
  async loss(
    sequences: readonly Int32Array[],
    options: ForwardOptions & { weights?: readonly Float32Array[] } = {},
  ): Promise<{ loss: number; weight: number }> {
    const packed = packWeights(sequences, options.weights)
    const logProbs = await this.logProbs(sequences, options)
    let total = 0
    let weight = 0
    let offset = 0
    for (const own of logProbs) {
      for (const [t, value] of own.entries()) {
        const w = packed[offset + t] as number
        total -= w * value
        weight += w
      }
      offset += own.length + 1
    }
    requireArgument(weight !== 0, 'the weights of all tokens sum to 0')
    return { loss: total / weight, weight }
  }

  async nextTokenLogits(
    sequences: readonly Int32Array[],
    options: ForwardOptions = {},
  ): Promise<Float32Array> {
    if (sequences.length === 0) return new Float32Array(0)
    const { lastLogits } = await runNative(options, 'sequences', (job) =>
      this.native.forward({ ...this.#batch(sequences, options), logProbs: false, lastLogits: true }, job),
    )
    return lastLogits as Float32Array
  }

  async gradientAt(
    sequences: readonly Int32Array[],
    options: ForwardOptions & { hook: Hook; weights?: readonly Float32Array[] },
  ): Promise<CapturedActivations> {
    const { hook } = options
    if (sequences.length === 0) return this.#rows(hook, sequences, undefined, new Float32Array(0))
    const { gradient } = await runNative(options, 'sequences', (job) =>
      this.native.gradientAt(
        {
          ...this.#batch(sequences, options),
          hook: this.#hook(hook),
          weights: packWeights(sequences, options.weights),
        },
        job,
      ),
    )
    return this.#rows(hook, sequences, undefined, gradient)
  }

  unembedding(): Float32Array {
    const embedding = this.#parsed.family === 'gpt2' ? 'transformer.wte.weight' : 'model.embed_tokens.weight'
    return this.parameter(this.#parsed.native.tied ? embedding : 'lm_head.weight').values.slice()
  }

  /** Token ids that end an answer: the configuration's, else the tokenizer's. */
  get endOfText(): readonly number[] {
    if (this.#parsed.endOfText.length > 0) return this.#parsed.endOfText
    const own = this.tokenizer.endOfText
    return own === undefined ? [] : [own]
  }

  /** The adapter's configuration, if the model has one. */
  get adapter(): AdapterConfig | undefined {
    return this.#adapter
  }

  /**
   * Puts low-rank adapters beside the linear maps whose names match one of `modules` ('c_attn', '*.mlp.*'). They
   * change nothing until trained; training then changes them only.
   */
  addAdapter(options: {
    rank: number
    /** Default: the rank. */
    alpha?: number
    modules: readonly string[]
    /** Scale by alpha / √rank instead of alpha / rank. Default false. */
    rankStabilised?: boolean
    seed: number
  }): void {
    const { rank, alpha = rank, modules, rankStabilised = false, seed } = options
    callNative(() => this.native.addAdapters({ rank, alpha, modules: [...modules], rankStabilised, seed }))
    this.#adapter = { rank, alpha, modules: [...modules], rankStabilised }
  }

  /** Takes the adapters away, leaving the base model. */
  removeAdapter(): void {
    callNative(() => this.native.removeAdapters())
    this.#adapter = undefined
  }

  /** Adds the adapters to the weights and takes them away. */
  async mergeAdapter(options: TaskOptions = {}): Promise<void> {
    await runNative(options, 'values', (job) => this.native.mergeAdapters(job))
    this.#adapter = undefined
  }

  /** Writes the adapters in PEFT's layout: adapter_config.json and adapter_model.safetensors. */
  async saveAdapter(directory: string, options: TaskOptions = {}): Promise<void> {
    requireArgument(this.#adapter !== undefined, 'the model has no adapter to save')
    const values = this.native.adapterValues()
    await writeAdapter(
      directory,
      this.#adapter,
      this.#parsed.family,
      named(this.native.adapterParameters(), values),
      options,
    )
  }

  /** Reads adapters in PEFT's layout; the model must have none. */
  async loadAdapter(directory: string, options: TaskOptions = {}): Promise<void> {
    const adapter = await readAdapterConfig(directory)
    this.addAdapter({ ...adapter, seed: 0 })
    try {
      await runNative(options, 'values', (job) =>
        this.native.loadAdapters(join(directory, 'adapter_model.safetensors'), job),
      )
    } catch (error) {
      this.removeAdapter()
      throw error
    }
  }

  #byName(): Map<string, Parameter> {
    this.#parameters ??= new Map(
      named(this.native.parameters(), this.native.values()).map((parameter) => [parameter.name, parameter]),
    )
    return this.#parameters
  }

  #hook(hook: Hook): { point: number; layer: number } {
    requireArgument(
      Number.isInteger(hook.layer) && hook.layer >= 0 && hook.layer < this.shape.layers,
      `hook: layer ${hook.layer}, the model has layers 0 to ${this.shape.layers - 1}`,
    )
    return nativeHook(hook)
  }

  #batch(sequences: readonly Int32Array[], options: ForwardOptions): NativeBatch {
    const { promptLengths } = options
    requireArgument(
      promptLengths === undefined || promptLengths.length === sequences.length,
      `promptLengths: found ${promptLengths?.length ?? 0} for ${sequences.length} sequences`,
    )
    return {
      ...packSequences(sequences),
      interventions: nativeInterventions(options.steering, this.shape.dModel, promptLengths !== undefined),
      ...(promptLengths === undefined ? {} : { promptLengths: Uint32Array.from(promptLengths) }),
    }
  }

  #rows(
    hook: Hook,
    sequences: readonly Int32Array[],
    mask: Uint8Array | undefined,
    values: Float32Array,
  ): CapturedActivations {
    const rows = values.length / this.shape.dModel
    const sequence = new Uint32Array(rows)
    const position = new Uint32Array(rows)
    const tokens = new Int32Array(rows)
    let row = 0
    let token = 0
    for (const [s, ids] of sequences.entries()) {
      for (let t = 0; t < ids.length; t++, token++) {
        if (mask !== undefined && mask[token] === 0) continue
        sequence[row] = s
        position[row] = t
        tokens[row] = ids[t] as number
        row++
      }
    }
    return { hook, values, rows, dModel: this.shape.dModel, sequence, position, tokens }
  }
}

function named(parameters: readonly NativeParameter[], values: Float32Array): Parameter[] {
  return parameters.map(({ name, shape, offset, size }) => ({
    name,
    shape,
    values: values.subarray(offset, offset + size),
  }))
}

function architecture(json: Record<string, unknown>): string {
  const names: Record<string, string> = {
    llama: 'LlamaForCausalLM',
    mistral: 'MistralForCausalLM',
    qwen2: 'Qwen2ForCausalLM',
  }
  return names[String(json['model_type'])] ?? 'LlamaForCausalLM'
}
