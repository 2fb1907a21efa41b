import type { Hook } from '../models/hook.js'

/**
 * add: x += strength·scale·v; ablate: x −= (x−c)·v̂ v̂; clamp: the coefficient of x−c along v̂ becomes
 * strength·scale; project: x keeps only c and its component along v̂. v̂ = v/‖v‖, c = `centre` or 0.
 */
export type SteeringOperation = 'add' | 'ablate' | 'clamp' | 'project'

/** Which tokens are steered. 'all' means prompt and answer; the first token of a sequence is an attention sink in many models. */
export type SteeredTokens = 'all' | 'after-first' | 'prompt' | 'answer'

/** One change of the residual stream at one hook. */
export interface SteeringStep {
  hook: Hook
  operation: SteeringOperation
  /** [dModel], made unit length before use. */
  vector: Float32Array
  /** In multiples of `scale`; negative steers against the vector. */
  strength: number
  /** Raw length of strength 1: the mean norm of the centred residual stream at the hook. */
  scale: number
  tokens: SteeredTokens
  /** [dModel]; what ablate, clamp and project take as the origin. */
  centre?: Float32Array
  /** For people: e.g. 'latent 317'. */
  label: string
}

/** Steps applied in order. */
export interface SteeringPlan {
  readonly steps: readonly SteeringStep[]
}
