/** Token sequences side by side in one array, as the native engine takes them. */
import { requireArgument } from '../core/errors.js'
import type { NativeBatch, NativeHook, NativeIntervention } from '../native.js'
import type { SteeringPlan } from '../steering/plan.js'
import type { Hook } from './hook.js'
import type { TokenSelection } from './language-model.js'

/** Sequence s is tokens[offsets[s]] … tokens[offsets[s + 1] − 1]. Errors name the first empty sequence. */
export function packSequences(sequences: readonly Int32Array[]): NativeBatch {
  const offsets = new Uint32Array(sequences.length + 1)
  let total = 0
  for (const [s, sequence] of sequences.entries()) {
    requireArgument(sequence instanceof Int32Array, `sequence ${s}: expected an Int32Array of token ids`)
    requireArgument(sequence.length > 0, `sequence ${s} is empty`)
    total += sequence.length
    offsets[s + 1] = total
  }
  const tokens = new Int32Array(total)
  for (const [s, sequence] of sequences.entries()) tokens.set(sequence, offsets[s])
  return { tokens, offsets }
}

/**
 * Weights of the targets (length − 1 values a sequence, entry t for the prediction of token t + 1) as one value a
 * token: that of the prediction made at the token.
 */
export function packWeights(
  sequences: readonly Int32Array[],
  weights: readonly Float32Array[] | undefined,
): Float32Array {
  const total = sequences.reduce((sum, { length }) => sum + length, 0)
  if (weights === undefined) return new Float32Array(total).fill(1)
  requireArgument(
    weights.length === sequences.length,
    `weights: found ${weights.length} arrays for ${sequences.length} sequences`,
  )
  const packed = new Float32Array(total)
  let offset = 0
  for (const [s, sequence] of sequences.entries()) {
    const own = weights[s] as Float32Array
    requireArgument(
      own.length === sequence.length - 1,
      `weights of sequence ${s}: found ${own.length}, expected ${sequence.length - 1} (one for each token after the first)`,
    )
    packed.set(own, offset)
    offset += sequence.length
  }
  return packed
}

/** One value 0/1 a token, or undefined where all are selected. */
export function selectTokens(
  sequences: readonly Int32Array[],
  selection: TokenSelection = 'all',
): Uint8Array | undefined {
  if (selection === 'all') return undefined
  const total = sequences.reduce((sum, { length }) => sum + length, 0)
  const mask = new Uint8Array(total)
  if (typeof selection !== 'string')
    requireArgument(
      selection.length === sequences.length,
      `token masks: found ${selection.length} for ${sequences.length} sequences`,
    )
  let offset = 0
  for (const [s, { length }] of sequences.entries()) {
    if (selection === 'after-first') mask.fill(1, offset + 1, offset + length)
    else if (selection === 'last') mask[offset + length - 1] = 1
    else {
      const own = selection[s] as Uint8Array
      requireArgument(
        own.length === length,
        `token mask ${s}: found ${own.length} values, expected ${length}`,
      )
      mask.set(own, offset)
    }
    offset += length
  }
  return mask
}

const points = { resid_pre: 0, resid_mid: 1, resid_post: 2 } as const

export function nativeHook(hook: Hook): NativeHook {
  return { point: points[hook.point], layer: hook.layer }
}

const operations = { add: 0, ablate: 1, clamp: 2, project: 3 } as const
const steered = { all: 0, 'after-first': 1, prompt: 2, answer: 3 } as const

/** A plan as the engine takes it: unit vectors, raw lengths. `knowsPrompt`: whether prompt and answer can be told apart. */
export function nativeInterventions(
  plan: SteeringPlan | undefined,
  dModel: number,
  knowsPrompt: boolean,
): NativeIntervention[] {
  return (plan?.steps ?? []).map((step) => {
    const { vector, label } = step
    requireArgument(
      vector.length === dModel,
      `steering '${label}': its vector has ${vector.length} values, the model's residual stream ${dModel}`,
    )
    requireArgument(
      knowsPrompt || (step.tokens !== 'answer' && step.tokens !== 'prompt'),
      `steering '${label}' is for ${step.tokens} tokens only, but this call does not know where the answer begins`,
      'give promptLengths',
    )
    const norm = Math.hypot(...vector)
    requireArgument(
      Number.isFinite(norm) && norm > 0,
      `steering '${label}': its vector has length ${norm}, expected a positive one`,
    )
    const amount = step.operation === 'add' || step.operation === 'clamp' ? step.strength * step.scale : 0
    requireArgument(Number.isFinite(amount), `steering '${label}': strength times scale is ${amount}`)
    const { centre } = step
    requireArgument(
      centre === undefined || centre.length === dModel,
      `steering '${label}': its centre has ${centre?.length ?? 0} values, the model's residual stream ${dModel}`,
    )
    return {
      hook: nativeHook(step.hook),
      operation: operations[step.operation],
      tokens: steered[step.tokens],
      vectors: vector.map((value) => value / norm),
      perSequence: false,
      amount,
      ...(centre === undefined ? {} : { centre }),
    }
  })
}
