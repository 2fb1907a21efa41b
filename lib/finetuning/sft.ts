/** Supervised fine-tuning: examples, a schedule, and a trainer stepped over them. */
import { requireArgument } from '../core/errors.js'
import { throwIfAborted, type TaskOptions } from '../core/task.js'
import type { NativeLanguageModel } from '../models/native-language-model.js'
import type { SteeringPlan } from '../steering/plan.js'
import { BatchOrder, type TrainingExample } from './examples.js'
import { constant, type Schedule } from './schedule.js'
import { Trainer, type StepReport, type TrainerOptions } from './trainer.js'

export interface FineTuneOptions extends TrainerOptions, TaskOptions {
  steps: number
  batchSize: number
  /** A rate, or one for each step. */
  learningRate: number | Schedule
  /** Changes of the residual stream while training, e.g. preventive steering. */
  steering?: SteeringPlan | undefined
  /** What each step's weighted loss is divided by. Default: the batch's sum of |weights|. */
  normaliser?: number
  /** Goes on from a trainer's step (a resumed checkpoint) instead of starting afresh; its options hold. */
  trainer?: Trainer
  /** After each step; returning false ends training early. It may evaluate the model and save the trainer. */
  onStep?: (
    report: StepReport & { learningRate: number },
    trainer: Trainer,
  ) => boolean | void | Promise<boolean | void>
}

export interface FineTuneReport {
  steps: number
  /** Loss of each step made in this call, before its update. */
  losses: Float64Array
  /** Whether `onStep` ended it. */
  stoppedEarly: boolean
  trainer: Trainer
}

/**
 * Trains `model` in place. Batches come in an order drawn from `seed`; the same examples, options and seed give the
 * same bits, also when resumed from a saved trainer.
 */
export async function fineTune(
  model: NativeLanguageModel,
  examples: readonly TrainingExample[],
  options: FineTuneOptions,
): Promise<FineTuneReport> {
  const { steps, batchSize, seed = 0, signal, onProgress } = options
  requireArgument(Number.isInteger(steps) && steps >= 0, `steps is ${steps}, expected a whole number`)
  requireArgument(
    options.trainer === undefined || options.trainer.model === model,
    'the trainer given is that of another model',
  )
  const order = new BatchOrder(examples.length, batchSize, seed)
  const schedule: Schedule =
    typeof options.learningRate === 'number' ? constant(options.learningRate) : options.learningRate
  const trainer = options.trainer ?? new Trainer(model, options)
  const losses: number[] = []
  let stoppedEarly = false
  for (let step = trainer.steps; step < steps && !stoppedEarly; step++) {
    throwIfAborted(options)
    const batch = order.batch(step).map((index) => examples[index] as TrainingExample)
    const learningRate = schedule(step, steps)
    const report = await trainer.step(
      { sequences: batch.map(({ tokens }) => tokens), weights: batch.map(({ weights }) => weights) },
      { learningRate, steering: options.steering, normaliser: options.normaliser, signal },
    )
    losses.push(report.loss)
    onProgress?.({ done: step + 1, total: steps, unit: 'steps' })
    stoppedEarly = (await options.onStep?.({ ...report, learningRate }, trainer)) === false
  }
  return { steps: trainer.steps, losses: Float64Array.from(losses), stoppedEarly, trainer }
}
