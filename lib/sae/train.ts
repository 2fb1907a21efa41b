import { PersonascopeError, requireArgument } from '../core/errors.js'
import { callNative, runNative, throwIfAborted, type TaskOptions } from '../core/task.js'
import { native } from '../native.js'
import type { SaeMetadata } from './config.js'
import { Sae } from './sae.js'

/** Activations for one training step: [rows, dModel], row-major. An ActivationStore's batches fit. */
export type TrainingBatch = Float32Array | { values: Float32Array }

/** What a training step tells. */
export interface SaeTrainingStep {
  /** Steps and tokens so far. */
  step: number
  tokens: number
  /** Fraction of variance unexplained, Σ‖x − x̂‖² / Σ‖x − x̄‖² over the batch, before the step. */
  fvu: number
  /** ‖e − ê‖² / ‖e‖² of the auxiliary reconstruction of the error; 0 where no latent is dead. */
  auxFvu: number
  /** Mean number of active latents a token. */
  l0: number
  /** Share of latents not active for `deadAfterTokens`. */
  deadShare: number
}

export interface SaeTrainingOptions extends TaskOptions {
  dModel: number
  latents: number
  /** Codes a token. */
  k: number
  /** Default 0. */
  seed?: number
  /** Constant, or of the step counted from 0. Default 2e-4 / √(latents / 2¹⁴), as in EleutherAI's sparsify. */
  learningRate?: number | ((step: number) => number)
  /** Where b_dec starts, over the first batch. Default 'geometric-median'. */
  decoderBias?: 'geometric-median' | 'mean'
  /** Dead latents that may help to explain the error, a token; 0 turns AuxK off. Default dModel / 2 (Gao et al. 2024). */
  auxK?: number
  /** Default 1/32. */
  auxCoefficient?: number
  /** A latent is dead when it was not active for so many tokens. Default 100 000. */
  deadAfterTokens?: number
  /** Adam. Default 0.9, 0.999, 6.25e-10. */
  beta1?: number
  beta2?: number
  epsilon?: number
  /** Stop after so many steps; left out, when the batches end. Also the total of progress reports. */
  steps?: number
  metadata?: SaeMetadata
  onStep?: (step: SaeTrainingStep) => void
}

export interface SaeTrainingReport extends SaeTrainingStep {
  /** One value a step. */
  history: { fvu: number[]; l0: number[]; deadShare: number[] }
}

/**
 * Trains a TopK SAE on a stream of batches, one step a batch (Gao et al. 2024, arXiv 2406.04093; see
 * native/sae/trainer.h): tied start, unit-norm decoder, AuxK for dead latents, Adam. The result is the same for any
 * number of threads. Errors: `ERR_INVALID_ARGUMENT`, `ERR_NON_FINITE` (row and dimension of the batch named).
 */
export async function trainSae(
  batches: AsyncIterable<TrainingBatch> | Iterable<TrainingBatch>,
  options: SaeTrainingOptions,
): Promise<{ sae: Sae; report: SaeTrainingReport }> {
  const { dModel, latents, k, steps, signal, onProgress } = options
  const rate = options.learningRate ?? 2e-4 / Math.sqrt(latents / 2 ** 14)
  const trainer = callNative(
    () =>
      new native.SaeTrainer({
        latents,
        width: dModel,
        k,
        seed: options.seed ?? 0,
        decoderBias: options.decoderBias === 'mean' ? 1 : 0,
        auxK: options.auxK ?? Math.min(latents, Math.ceil(dModel / 2)),
        auxCoefficient: options.auxCoefficient ?? 1 / 32,
        deadAfterTokens: options.deadAfterTokens ?? 100_000,
        beta1: options.beta1 ?? 0.9,
        beta2: options.beta2 ?? 0.999,
        epsilon: options.epsilon ?? 6.25e-10,
      }),
  )
  const history: SaeTrainingReport['history'] = { fvu: [], l0: [], deadShare: [] }
  let last: SaeTrainingStep | undefined
  for await (const batch of batches) {
    throwIfAborted(options)
    const values = batch instanceof Float32Array ? batch : batch.values
    const done = history.fvu.length
    const learningRate = typeof rate === 'function' ? rate(done) : rate
    const step = await runNative({ signal }, 'tokens', (job) =>
      trainer.step(values, learningRate, job),
    ).catch((error: PersonascopeError) => {
      throw new PersonascopeError(error.code, `SAE training, batch ${done}: ${error.message}`, {
        cause: error,
      })
    })
    history.fvu.push(step.fvu)
    history.l0.push(step.l0)
    history.deadShare.push(step.deadShare)
    last = step
    options.onStep?.(step)
    onProgress?.({ done: done + 1, total: steps ?? 0, unit: 'steps' })
    if (done + 1 === steps) break
  }
  requireArgument(last !== undefined, 'SAE training: there are no batches')
  const made = await runNative({ signal }, 'weights', (job) => trainer.result(job))
  const settings = { dModel, latents, k, subtractDecoderBias: true, metadata: options.metadata ?? {} }
  return { sae: Sae.fromNative(settings, made), report: { ...last, history } }
}
