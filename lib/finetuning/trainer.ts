/** Training steps on a native model: gradients of a batch, clipped, then AdamW. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { PersonascopeError, requireArgument } from '../core/errors.js'
import { callNative, runNative, type TaskOptions } from '../core/task.js'
import { readJson, writeJson } from '../io/json.js'
import { SafetensorsFile, writeSafetensors } from '../io/safetensors.js'
import type { Hook } from '../models/hook.js'
import { NativeLanguageModel } from '../models/native-language-model.js'
import { nativeHook, nativeInterventions, packSequences, packWeights } from '../models/packing.js'
import { native, type NativeTrainer } from '../native.js'
import type { SteeringPlan } from '../steering/plan.js'

export interface TrainerOptions {
  /**
   * Patterns of parameter names, e.g. ['*.wpe.*'] or ['ln_1']. Default: the adapters if the model has any, else
   * everything.
   */
  trainable?: readonly string[]
  /** AdamW's, default [0.9, 0.999]. */
  betas?: readonly [number, number]
  /** Default 1e-8. */
  eps?: number
  /** Decoupled weight decay, default 0. */
  weightDecay?: number
  /** What decays: matrices and embeddings (default), or biases and norms too. */
  decay?: 'matrices' | 'all'
  /** Largest norm of the gradient; 0 (default) does not clip. */
  clip?: number
  /** Of the noise. Default 0. */
  seed?: number
  /**
   * One random vector a sequence, added to all its tokens at each hook: of uniformly random length up to
   * `strength` times the root mean square norm of the centred residual stream there, measured at the step before
   * (so the first step has none).
   */
  noise?: { hooks: readonly Hook[]; strength: number }
}

export interface TrainingBatch {
  sequences: readonly Int32Array[]
  /** Loss weights, length − 1 values a sequence: entry t weighs the prediction of token t + 1. Default all 1. */
  weights?: readonly Float32Array[] | undefined
  /** Tokens of each sequence that are prompt, for steering of 'prompt' or 'answer' tokens. */
  promptLengths?: readonly number[] | undefined
}

export interface StepOptions extends TaskOptions {
  learningRate: number
  /** Changes of the residual stream while the loss is computed (e.g. preventive steering). */
  steering?: SteeringPlan | undefined
  /** What the weighted sum of the loss is divided by. Default: the sum of |weights|. */
  normaliser?: number | undefined
}

export interface StepReport {
  /** Steps done, this one included. */
  step: number
  /** Weighted cross-entropy over the normaliser, before the update. */
  loss: number
  /** Before clipping. */
  gradientNorm: number
  /** Target tokens of non-zero weight. */
  targets: number
}

const stateSchema = z.object({
  format: z.literal('personascope-trainer'),
  version: z.literal(1),
  step: z.int().min(0),
  options: z.object({
    trainable: z.array(z.string()),
    beta1: z.number(),
    beta2: z.number(),
    eps: z.number(),
    weightDecay: z.number(),
    decayAll: z.boolean(),
    clip: z.number(),
    seed: z.number(),
    noiseHooks: z.array(z.object({ point: z.number(), layer: z.number() })),
    noiseStrength: z.number(),
  }),
  noiseScales: z.array(z.number().min(0)),
  adapter: z.boolean(),
})

type NativeOptions = z.output<typeof stateSchema>['options']

export class Trainer {
  readonly model: NativeLanguageModel
  readonly #native: NativeTrainer
  readonly #options: NativeOptions

  constructor(model: NativeLanguageModel, options: TrainerOptions = {}) {
    const [beta1, beta2] = options.betas ?? [0.9, 0.999]
    this.model = model
    this.#options = {
      trainable: [...(options.trainable ?? [])],
      beta1,
      beta2,
      eps: options.eps ?? 1e-8,
      weightDecay: options.weightDecay ?? 0,
      decayAll: options.decay === 'all',
      clip: options.clip ?? 0,
      seed: options.seed ?? 0,
      noiseHooks: (options.noise?.hooks ?? []).map(nativeHook),
      noiseStrength: options.noise?.strength ?? 0,
    }
    this.#native = callNative(() => new native.Trainer(model.native, this.#options))
  }

  /** Steps done. */
  get steps(): number {
    return this.#native.steps()
  }

  /** Number of values that training changes. */
  get trainedValues(): number {
    return this.#native.trainedValues()
  }

  /**
   * One update from one batch. However large the batch, memory for activations is that of a part of it. Errors:
   * `ERR_NON_FINITE` names the parameter whose gradient overflowed; the weights are then as before.
   */
  async step(batch: TrainingBatch, options: StepOptions): Promise<StepReport> {
    return this.#run(batch, options, true)
  }

  /** The loss and gradients of a batch without an update; see {@link gradient}. */
  async gradients(
    batch: TrainingBatch,
    options: Omit<StepOptions, 'learningRate'> = {},
  ): Promise<StepReport> {
    return this.#run(batch, { ...options, learningRate: 0 }, false)
  }

  /** A copy of a parameter's gradient at the last step, before clipping; undefined if it is not trained. */
  gradient(name: string): Float32Array | undefined {
    return callNative(() => this.#native.gradient(name))
  }

  /** Writes model, adapters, moments and step count, from which `resume` goes on to the same bits. */
  async save(directory: string, options: TaskOptions = {}): Promise<void> {
    await mkdir(directory, { recursive: true })
    await this.model.save(directory, options)
    if (this.model.adapter !== undefined) await this.model.saveAdapter(join(directory, 'adapter'), options)
    const tensors = this.#native.moments().flatMap(({ name, shape, first, second }) => [
      { name: `first.${name}`, dtype: 'F32' as const, shape, data: first },
      { name: `second.${name}`, dtype: 'F32' as const, shape, data: second },
    ])
    await writeSafetensors(join(directory, 'moments.safetensors'), tensors, options)
    // Last, so that a folder with trainer.json is whole.
    await writeJson(join(directory, 'trainer.json'), {
      format: 'personascope-trainer',
      version: 1,
      step: this.steps,
      options: this.#options,
      noiseScales: [...this.#native.noiseScales()],
      adapter: this.model.adapter !== undefined,
    })
  }

  /** Reads what `save` wrote. Errors name the file. */
  static async resume(directory: string, options: TaskOptions = {}): Promise<Trainer> {
    const state = await readJson(join(directory, 'trainer.json'), stateSchema)
    const model = await NativeLanguageModel.load(directory, options)
    if (state.adapter) await model.loadAdapter(join(directory, 'adapter'), options)
    const saved = state.options
    const trainer = new Trainer(model, {
      trainable: saved.trainable,
      betas: [saved.beta1, saved.beta2],
      eps: saved.eps,
      weightDecay: saved.weightDecay,
      decay: saved.decayAll ? 'all' : 'matrices',
      clip: saved.clip,
      seed: saved.seed,
      noise: {
        hooks: saved.noiseHooks.map(({ point, layer }) => ({ point: hookPoint(point), layer })),
        strength: saved.noiseStrength,
      },
    })
    const path = join(directory, 'moments.safetensors')
    const file = SafetensorsFile.open(path)
    const moments = trainer.#native.moments()
    if (file.tensors.size !== 2 * moments.length)
      throw new PersonascopeError(
        'ERR_FORMAT',
        `${path}: found ${file.tensors.size} tensors, expected ${2 * moments.length}`,
      )
    for (const { name, shape, first, second } of moments) {
      first.set(await file.f32(`first.${name}`, { ...options, shape }))
      second.set(await file.f32(`second.${name}`, { ...options, shape }))
    }
    callNative(() => {
      trainer.#native.setSteps(state.step)
      trainer.#native.setNoiseScales(Float64Array.from(state.noiseScales))
    })
    return trainer
  }

  async #run(batch: TrainingBatch, options: StepOptions, update: boolean): Promise<StepReport> {
    const { sequences, weights, promptLengths } = batch
    requireArgument(sequences.length > 0, 'the batch has no sequences')
    const request = {
      ...packSequences(sequences),
      ...(promptLengths === undefined ? {} : { promptLengths: Uint32Array.from(promptLengths) }),
      interventions: nativeInterventions(
        options.steering,
        this.model.shape.dModel,
        promptLengths !== undefined,
      ),
      weights: packWeights(sequences, weights),
      normaliser: options.normaliser ?? 0,
      learningRate: options.learningRate,
      update,
    }
    const { loss, gradientNorm, targets } = await runNative(options, 'tokens', (job) =>
      this.#native.step(request, job),
    )
    return { step: this.steps, loss, gradientNorm, targets }
  }
}

function hookPoint(point: number): Hook['point'] {
  return (['resid_pre', 'resid_mid', 'resid_post'] as const)[point] ?? 'resid_post'
}
