import { requireArgument } from '../core/errors.js'
import { fineTune, type FineTuneOptions } from '../finetuning/sft.js'
import type { TrainingExample } from '../finetuning/examples.js'
import type { NativeLanguageModel } from '../models/native-language-model.js'

export interface RealignOptions<Result> extends Omit<
  FineTuneOptions,
  'steps' | 'batchSize' | 'onStep' | 'trainer'
> {
  /** Default 35. */
  steps?: number
  /** Default 4. */
  batchSize?: number
  /** Steps after which the model is measured; 0 is before the first. Default: 0, every fifth step, and the last. */
  measureAt?: readonly number[]
  /** What is measured, e.g. an evaluation and the latents' change. */
  measure: (model: NativeLanguageModel, step: number) => Result | Promise<Result>
}

export interface RealignPoint<Result> {
  step: number
  /** Examples seen so far (with repetition, if there are fewer than that). */
  examples: number
  /** Of this step, before its update; null at step 0. */
  loss: number | null
  result: Result
}

/**
 * Emergent re-alignment (Wang et al. 2025, section 5): fine-tunes a misaligned model on a few benign examples, in
 * place, and measures it along the steps. Clone the model first if it is still needed.
 */
export async function realign<Result>(
  model: NativeLanguageModel,
  examples: readonly TrainingExample[],
  options: RealignOptions<Result>,
): Promise<RealignPoint<Result>[]> {
  const { steps = 35, batchSize = 4, measureAt, measure, ...rest } = options
  const at = new Set(measureAt ?? defaultSteps(steps))
  for (const step of at)
    requireArgument(
      Number.isSafeInteger(step) && step >= 0 && step <= steps,
      `measureAt: found ${step}, expected whole numbers from 0 to ${steps}`,
    )
  const points: RealignPoint<Result>[] = []
  if (at.has(0)) points.push({ step: 0, examples: 0, loss: null, result: await measure(model, 0) })
  await fineTune(model, examples, {
    ...rest,
    steps,
    batchSize,
    onStep: async ({ step, loss }) => {
      if (at.has(step))
        points.push({ step, examples: step * batchSize, loss, result: await measure(model, step) })
    },
  })
  return points
}

function defaultSteps(steps: number): number[] {
  const every = Array.from({ length: Math.floor(steps / 5) + 1 }, (_, i) => i * 5)
  return [...every, steps]
}
