import { requireArgument } from '../core/errors.js'
import { runNative, type TaskOptions } from '../core/task.js'
import type { LanguageModel } from '../models/language-model.js'
import { native } from '../native.js'

export interface NearToken {
  id: number
  token: string
  score: number
}

export interface NearestTokens {
  /** Highest scores first; ties by lower id. */
  nearest: NearToken[]
  /** Lowest scores first; ties by lower id. */
  farthest: NearToken[]
}

/**
 * Reads a vector of the residual stream as tokens: those whose rows of the unembedding point most, and least, its way.
 * 'cosine' compares directions; 'logit' is the raw product with the vector made unit length. The final norm before the
 * unembedding is left out, as usual for decoder vectors.
 *
 * Errors: `ERR_INVALID_ARGUMENT` for a vector of another width or of length 0.
 */
export async function nearestTokens(
  vector: Float32Array,
  model: Pick<LanguageModel, 'unembedding' | 'shape' | 'tokenizer'>,
  options: TaskOptions & { count?: number; measure?: 'cosine' | 'logit' } = {},
): Promise<NearestTokens> {
  const { count = 10, measure = 'cosine' } = options
  const { dModel } = model.shape
  requireArgument(
    vector.length === dModel,
    `vector: found ${vector.length} components, expected ${dModel} as the model's`,
  )
  const norm = Math.sqrt(vector.reduce((total, value) => total + value * value, 0))
  requireArgument(Number.isFinite(norm) && norm > 0, `vector: its length is ${norm}`)
  const { dots, norms } = await runNative(options, 'tokens', (job) =>
    native.rowProducts(model.unembedding(), dModel, vector, job),
  )
  const scores = dots.map((dot, id) => {
    if (measure === 'logit') return dot / norm
    const length = norms[id] as number
    return length === 0 ? 0 : dot / (length * norm)
  })
  const score = (id: number): number => scores[id] as number
  const ids = Uint32Array.from(scores, (_, id) => id)
  const entry = (id: number): NearToken => ({ id, token: model.tokenizer.token(id), score: score(id) })
  const rising = ids.toSorted((a, b) => score(a) - score(b) || a - b)
  const falling = ids.toSorted((a, b) => score(b) - score(a) || a - b)
  return {
    nearest: Array.from(falling.subarray(0, count), entry),
    farthest: Array.from(rising.subarray(0, count), entry),
  }
}
