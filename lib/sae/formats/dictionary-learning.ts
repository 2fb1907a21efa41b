/** dictionary_learning (https://github.com/saprmarks/dictionary_learning): `ae.pt` and `config.json`. */
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { PersonascopeError } from '../../core/errors.js'
import type { TaskOptions } from '../../core/task.js'
import { readJson } from '../../io/json.js'
import { TensorFile } from '../../io/tensor-file.js'
import type { NativeTensor } from '../../native.js'
import type { SaeMetadata } from '../config.js'
import { DECODER_NORMS, type SaeSpec } from '../spec.js'
import { fileWithEnding, type Place, type SaeFormat } from './format.js'
import { batchThreshold, matrixShape, numberIn, refuse, requireK, requireNumber } from './weights.js'

const CONFIG = 'config.json'

const schema = z.object({
  trainer: z.object({
    dict_class: z.string().nullish(),
    layer: z.int().min(0).nullish(),
    lm_name: z.string().nullish(),
    submodule_name: z.string().nullish(),
  }),
  buffer: z.object({ ctx_len: z.int().min(1).nullish() }).nullish(),
})

type Parts = Pick<SaeSpec, 'selection' | 'subtractDecoderBias' | 'bEnc' | 'bDec'> &
  Partial<Pick<SaeSpec, 'selectionScale' | 'scaledCodes'>>

/** The state dict inside a file: in interrupted runs it lies under 'ae', its biases not yet scaled. */
class State {
  readonly file: TensorFile
  readonly #prefix: string
  /** Activations were divided by this in training; biases and thresholds have to be multiplied by it. */
  readonly factor: number
  readonly #options: TaskOptions | undefined

  constructor(file: TensorFile, options: TaskOptions | undefined) {
    this.file = file
    this.#options = options
    const interrupted = [...file.tensors.keys()].some((name) => name.startsWith('ae/'))
    this.#prefix = interrupted ? 'ae/' : ''
    this.factor = interrupted ? (numberIn(file, 'norm_factor') ?? 1) : 1
  }

  has(name: string): boolean {
    return this.file.tensors.has(this.#prefix + name)
  }

  key(name: string): string {
    return this.#prefix + name
  }

  tensor(name: string, shape?: readonly number[]): NativeTensor {
    return this.file.tensor(this.key(name), shape)
  }

  /** A vector that scales with the activations: a bias or a threshold. */
  async bias(name: string, size: number): Promise<Float32Array> {
    const values = await this.vector(name, size)
    return this.factor === 1 ? values : values.map((value) => value * this.factor)
  }

  vector(name: string, size: number): Promise<Float32Array> {
    return this.file.f32(this.key(name), [size], this.#options)
  }

  threshold(): number {
    const threshold = requireNumber(this.file, this.key('threshold'))
    return threshold >= 0 ? threshold * this.factor : threshold
  }

  k(latents: number): number {
    return requireK(this.file.path, numberIn(this.file, this.key('k')), latents)
  }
}

/** How each class of the library computes, given the sizes; b_dec goes by four names. */
const classes: Record<string, (state: State, n: number, d: number) => Promise<Parts>> = {
  // Its loader makes decoder vectors of length 1 and gives their lengths to the latents.
  AutoEncoder: async (state, n, d) => ({
    selection: { rule: 'threshold', threshold: 0 },
    subtractDecoderBias: true,
    bEnc: await state.bias('encoder.bias', n),
    bDec: await state.bias('bias', d),
    selectionScale: DECODER_NORMS,
    scaledCodes: true,
  }),
  AutoEncoderNew: async (state, n, d) => ({
    selection: { rule: 'threshold', threshold: 0 },
    subtractDecoderBias: false,
    bEnc: await state.bias('encoder.bias', n),
    bDec: await state.bias('decoder.bias', d),
  }),
  GatedAutoEncoder: async (state, n, d) => ({
    selection: {
      rule: 'gated',
      gateBias: await state.bias('gate_bias', n),
      magnitudeScale: (await state.vector('r_mag', n)).map(Math.exp),
      magnitudeBias: await state.bias('mag_bias', n),
    },
    subtractDecoderBias: true,
    bEnc: new Float32Array(n),
    bDec: await state.bias('decoder_bias', d),
  }),
  AutoEncoderTopK: async (state, n, d) => ({
    selection: { rule: 'topk', k: state.k(n) },
    subtractDecoderBias: true,
    bEnc: await state.bias('encoder.bias', n),
    bDec: await state.bias('b_dec', d),
  }),
  BatchTopKSAE: async (state, n, d) => ({
    selection: batchThreshold(state.file.path, state.threshold()),
    subtractDecoderBias: true,
    bEnc: await state.bias('encoder.bias', n),
    bDec: await state.bias('b_dec', d),
  }),
  MatryoshkaBatchTopKSAE: async (state, n, d) => ({
    selection: batchThreshold(state.file.path, state.threshold()),
    subtractDecoderBias: true,
    bEnc: await state.bias('b_enc', n),
    bDec: await state.bias('b_dec', d),
  }),
  // apply_b_dec_to_input is not saved, and false unless the caller of its loader says otherwise.
  JumpReluAutoEncoder: async (state, n, d) => ({
    selection: { rule: 'threshold', threshold: await state.bias('threshold', n) },
    subtractDecoderBias: false,
    bEnc: await state.bias('b_enc', n),
    bDec: await state.bias('b_dec', d),
  }),
}

export const dictionaryLearning: SaeFormat = {
  name: 'dictionary_learning',

  async lacks(place: Place): Promise<string | undefined> {
    const path = fileOf(place)
    if (path === undefined) return 'ae.pt'
    const file = await TensorFile.open(path)
    const names = new Set([...file.tensors.keys()].map((name) => name.replace(/^ae\//, '')))
    if (names.has('pre_bias')) return 'tensors of a dictionary (an OpenAI file)'
    if (file.tensors.get('encoder.weight')?.shape.length === 3)
      return 'an encoder of one layer (a crosscoder)'
    const linear = names.has('encoder.weight') && names.has('decoder.weight')
    if (linear || (names.has('W_enc') && names.has('W_dec'))) return undefined
    return 'tensors encoder.weight and decoder.weight, or W_enc and W_dec'
  },

  async read(place: Place, options?: TaskOptions): Promise<SaeSpec> {
    const path = fileOf(place)!
    const state = new State(await TensorFile.open(path, options), options)
    const { name, metadata } = await described(path, state)
    const read = classes[name]
    if (read === undefined) refuse(path, 'dict_class', name, `one of ${Object.keys(classes).join(', ')}`)
    // Linear layers are [out, in]; the newer classes keep matrices of their own, as SAELens does.
    const linear = state.has('encoder.weight')
    const [first, second] = matrixShape(state.file, state.key(linear ? 'encoder.weight' : 'W_enc'))
    const [latents, dModel] = linear ? [first, second] : [second, first]
    return {
      dModel,
      latents,
      architecture: name,
      inputNorm: 'none',
      wEnc: linear ? state.tensor('encoder.weight') : state.tensor('W_enc').transpose(),
      wDec: linear
        ? state.tensor('decoder.weight', [dModel, latents]).transpose()
        : state.tensor('W_dec', [latents, dModel]),
      ...(await read(state, latents, dModel)),
      metadata,
    }
  },
}

function fileOf(place: Place): string | undefined {
  if (place.file !== undefined && place.file !== CONFIG) return fileWithEnding(place, ['.pt'])
  return place.names.has('ae.pt')
    ? join(place.folder, 'ae.pt')
    : fileWithEnding({ ...place, file: undefined }, ['.pt'])
}

/** The class and metadata from config.json; without one, the class that the tensors' names leave no doubt about. */
async function described(path: string, state: State): Promise<{ name: string; metadata: SaeMetadata }> {
  const where = join(dirname(path), CONFIG)
  try {
    const { trainer, buffer } = await readJson(where, schema)
    const name = trainer.dict_class ?? guessed(state)
    const metadata: SaeMetadata = {
      modelName: trainer.lm_name ?? undefined,
      contextSize: buffer?.ctx_len ?? undefined,
    }
    if (
      typeof trainer.layer === 'number' &&
      (trainer.submodule_name ?? 'resid_post').startsWith('resid_post')
    )
      metadata.hook = { point: 'resid_post', layer: trainer.layer }
    return { name, metadata }
  } catch (error) {
    if (error instanceof PersonascopeError && error.code === 'ERR_NOT_FOUND')
      return { name: guessed(state), metadata: {} }
    throw error
  }
}

function guessed(state: State): string {
  const named = state.file.scalars.get('config/dict_class') // of interrupted runs
  if (typeof named === 'string') return named
  if (state.has('gate_bias')) return 'GatedAutoEncoder'
  if (state.has('decoder.bias')) return 'AutoEncoderNew'
  if (state.has('bias')) return 'AutoEncoder'
  if (state.has('group_sizes')) return 'MatryoshkaBatchTopKSAE'
  if (state.has('W_enc') && !state.has('k')) return 'JumpReluAutoEncoder'
  throw new PersonascopeError(
    'ERR_FORMAT',
    `${state.file.path}: its tensors fit AutoEncoderTopK and BatchTopKSAE alike, and there is no ${CONFIG} beside it`,
    { hint: `put the ${CONFIG} of the training run beside the file: trainer.dict_class says which it is` },
  )
}
