import { requireArgument } from '../core/errors.js'
import { runNative, type TaskOptions } from '../core/task.js'
import { hookName, type Hook } from '../models/hook.js'
import type { LanguageModel, TokenSelection } from '../models/language-model.js'
import { native } from '../native.js'
import type { SteeringSite } from './plan.js'

/** The residual stream at a hook over calibration text: its centre and its unit of steering strength. */
export interface ResidualScale extends SteeringSite {
  /** Mean residual, [dModel]. */
  centre: Float32Array
  /** Mean norm of residual − centre: the raw length of strength 1. */
  scale: number
  /** Tokens it was measured on. */
  rows: number
}

/**
 * Measures the mean of the residual stream and the mean norm of what remains when it is taken away, over the chosen
 * tokens (default 'after-first': the first token of a sequence is an outlier in many models).
 *
 * Errors: `ERR_NON_FINITE` with the row; `ERR_INVALID_ARGUMENT` if no token is chosen or all residuals are equal.
 */
export async function residualScale(
  model: Pick<LanguageModel, 'capture'>,
  sequences: readonly Int32Array[],
  options: TaskOptions & { hook: Hook; tokens?: TokenSelection; batchSize?: number },
): Promise<ResidualScale> {
  const { hook, tokens = 'after-first', ...rest } = options
  const { values, rows, dModel } = await model.capture(sequences, { ...rest, hook, tokens })
  requireArgument(rows > 0, `no token of the ${sequences.length} sequences is selected`)
  const { mean, distance } = await runNative(options, 'rows', (job) => native.rowMoments(values, dModel, job))
  requireArgument(
    distance > 0,
    `the ${rows} residuals at ${hookName(hook)} are all equal: no unit of strength can be taken from them`,
  )
  return { hook, centre: Float32Array.from(mean), scale: distance, rows }
}
