import { requireArgument } from '../core/errors.js'
import type { Hook } from '../models/hook.js'
import { unit, type Direction } from './direction.js'

/**
 * add: x += strength·scale·v̂; ablate: x −= (x−c)·v̂ v̂; clamp: the coefficient of x−c along v̂ becomes
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

/** Where to steer and the unit of strength there: what `residualScale` measures. */
export interface SteeringSite {
  hook: Hook
  /** Mean norm of the centred residual stream at the hook. */
  scale: number
  /** Mean of the residual stream at the hook, [dModel]. */
  centre?: Float32Array
}

export interface StepOptions {
  /** Default 'after-first'. */
  tokens?: SteeredTokens
  /** Default: the direction's. */
  label?: string
}

/** Makers of plans; each gives a plan of one step, `combine` strings plans together. */
export const SteeringPlan = {
  /** No steering. */
  none: { steps: [] } as SteeringPlan,

  /** Adds strength × scale × the unit vector. */
  add(direction: Direction, site: SteeringSite, options: StepOptions & { strength: number }): SteeringPlan {
    return plan('add', direction, { hook: site.hook, scale: site.scale }, options.strength, options)
  },

  /** Removes the component along the direction, relative to the site's centre if it has one. */
  ablate(direction: Direction, site: SteeringSite, options: StepOptions = {}): SteeringPlan {
    return plan('ablate', direction, site, 0, options)
  },

  /** Sets the component along the direction to strength × scale, relative to the site's centre if it has one. */
  clamp(direction: Direction, site: SteeringSite, options: StepOptions & { strength: number }): SteeringPlan {
    return plan('clamp', direction, site, options.strength, options)
  },

  /** Keeps only the component along the direction (and the site's centre if it has one). */
  project(direction: Direction, site: SteeringSite, options: StepOptions = {}): SteeringPlan {
    return plan('project', direction, site, 0, options)
  },

  /** The steps of all plans, in order. */
  combine(...plans: readonly SteeringPlan[]): SteeringPlan {
    return { steps: plans.flatMap(({ steps }) => steps) }
  },
}

function plan(
  operation: SteeringOperation,
  direction: Direction,
  site: SteeringSite,
  strength: number,
  options: StepOptions,
): SteeringPlan {
  const { hook, scale, centre } = site
  const label = options.label ?? direction.label
  requireArgument(Number.isFinite(strength), `${label}: strength ${strength} is not a finite number`)
  requireArgument(
    Number.isFinite(scale) && scale > 0,
    `${label}: scale ${scale} is not a positive number`,
    'measure it with residualScale',
  )
  requireArgument(
    centre === undefined || centre.length === direction.vector.length,
    `${label}: centre of ${centre?.length} components, but a vector of ${direction.vector.length}`,
  )
  const step: SteeringStep = {
    hook,
    operation,
    vector: unit(direction.vector, label),
    strength,
    scale,
    tokens: options.tokens ?? 'after-first',
    label,
    ...(centre === undefined ? {} : { centre }),
  }
  return { steps: [step] }
}
