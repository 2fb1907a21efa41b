import { requireArgument } from '../core/errors.js'
import { runNative, type TaskOptions } from '../core/task.js'
import type { Hook } from '../models/hook.js'
import type { LanguageModel, TokenSelection } from '../models/language-model.js'
import { native } from '../native.js'
import type { Direction } from './direction.js'

/** Text on one side of a mean difference: e.g. prompts with misaligned answers, and where the answers are. */
export interface Side {
  /** The model that reads it; the same on both sides, or the model before and after a fine-tune. */
  model: Pick<LanguageModel, 'capture'>
  sequences: readonly Int32Array[]
  /** Default 'after-first'. For answers only, one mask a sequence. */
  tokens?: TokenSelection
}

/**
 * The difference of the residual stream's means, `positive` − `negative`: the direction of Soligo et al. 2025
 * (arXiv 2506.11618), which needs no SAE. Its vector keeps its length.
 *
 * Errors: `ERR_INVALID_ARGUMENT` if a side has no tokens or the widths differ; `ERR_NON_FINITE`.
 */
export async function meanDifference(
  positive: Side,
  negative: Side,
  options: TaskOptions & { hook: Hook; batchSize?: number; label?: string },
): Promise<Direction> {
  const { label = 'mean difference' } = options
  const [above, below] = [
    await meanResidual(positive, 'positive', options),
    await meanResidual(negative, 'negative', options),
  ]
  requireArgument(
    above.length === below.length,
    `${label}: residuals of ${above.length} and of ${below.length} components`,
  )
  return { vector: Float32Array.from(above, (value, i) => value - (below[i] as number)), label }
}

async function meanResidual(
  { model, sequences, tokens = 'after-first' }: Side,
  name: string,
  options: TaskOptions & { hook: Hook; batchSize?: number },
): Promise<Float64Array> {
  const { hook, batchSize, signal } = options
  const { values, rows, dModel } = await model.capture(sequences, {
    hook,
    tokens,
    signal,
    ...(batchSize === undefined ? {} : { batchSize }),
  })
  requireArgument(rows > 0, `${name}: no token of the ${sequences.length} sequences is selected`)
  const { mean } = await runNative(options, 'rows', (job) => native.rowMoments(values, dModel, job))
  return mean
}
