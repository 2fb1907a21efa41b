import { requireArgument } from '../core/errors.js'
import { evaluate, type EvaluateOptions, type Evaluation } from '../evaluation/evaluate.js'
import type { Grader } from '../grading/grader.js'
import type { LanguageModel, Prompt } from '../models/language-model.js'
import type { Direction } from './direction.js'
import { SteeringPlan, type SteeredTokens, type SteeringSite } from './plan.js'

export interface SweepOptions extends Omit<EvaluateOptions, 'steering' | 'gradedPrompts'> {
  /** Strengths to try, in multiples of the site's scale; all positive, or all negative. */
  strengths: readonly number[]
  grader: Grader
  /** Prompts on which the strength is chosen; not the ones it is then measured on. */
  heldOut: readonly Prompt[]
  gradedHeldOut?: readonly Prompt[]
  /** Prompts on which the chosen strength is measured; left out, it is only chosen. */
  prompts?: readonly Prompt[]
  gradedPrompts?: readonly Prompt[]
  /** Largest share of incoherent first draws that a strength may cause. Default 0.1. */
  incoherenceLimit?: number
  /** Default 'after-first'. */
  tokens?: SteeredTokens
  /** What is steered besides, before this direction. */
  steering?: SteeringPlan
  /**
   * 'grid' tries every strength; 'descend' goes from the largest down and stops at the first that stays coherent,
   * which chooses the same one. Default 'grid'.
   */
  search?: 'grid' | 'descend'
}

export interface SweepPoint {
  strength: number
  /** On the held-out prompts. */
  evaluation: Evaluation
}

export interface Sweep {
  label: string
  /** Those tried, by rising |strength|. */
  points: SweepPoint[]
  /** The largest |strength| whose incoherence on the held-out prompts is within the limit; null if none is. */
  chosen: number | null
  /** The chosen strength on the evaluation prompts. */
  evaluation: Evaluation | null
}

/**
 * Steers along a direction as strongly as coherence allows: chooses the strength on held-out prompts, then measures it
 * on the evaluation prompts (Wang et al. 2025, section 3: per-latent strength, incoherence at most 10 %).
 */
export async function sweepSteering(
  model: Pick<LanguageModel, 'generate'>,
  direction: Direction,
  site: SteeringSite,
  options: SweepOptions,
): Promise<Sweep> {
  const {
    strengths,
    grader,
    heldOut,
    gradedHeldOut,
    prompts,
    gradedPrompts,
    incoherenceLimit = 0.1,
    tokens = 'after-first',
    steering = SteeringPlan.none,
    search = 'grid',
    onProgress,
    ...rest
  } = options
  requireArgument(strengths.length > 0, 'strengths: found none')
  requireArgument(
    strengths.every((strength) => strength > 0) || strengths.every((strength) => strength < 0),
    `strengths: found ${strengths.join(', ')}, expected all positive or all negative`,
  )
  requireArgument(
    new Set(strengths).size === strengths.length,
    `strengths: found ${strengths.join(', ')}, expected each only once`,
  )
  const total = strengths.length + (prompts === undefined ? 0 : 1)
  let done = 0
  const measure = async (
    strength: number,
    on: readonly Prompt[],
    graded: readonly Prompt[] | undefined,
  ): Promise<Evaluation> => {
    const plan = SteeringPlan.combine(steering, SteeringPlan.add(direction, site, { strength, tokens }))
    const evaluation = await evaluate(model, on, grader, {
      ...rest,
      steering: plan,
      ...(graded === undefined ? {} : { gradedPrompts: graded }),
    })
    onProgress?.({ done: ++done, total, unit: 'strengths' })
    return evaluation
  }

  const descending = strengths.toSorted((a, b) => Math.abs(b) - Math.abs(a))
  const points: SweepPoint[] = []
  let chosen: number | null = null
  for (const strength of descending) {
    const evaluation = await measure(strength, heldOut, gradedHeldOut)
    points.unshift({ strength, evaluation })
    const { value } = evaluation.incoherent
    if (chosen === null && value !== null && value <= incoherenceLimit) chosen = strength
    if (chosen !== null && search === 'descend') break
  }
  const evaluation =
    chosen === null || prompts === undefined ? null : await measure(chosen, prompts, gradedPrompts)
  return { label: direction.label, points, chosen, evaluation }
}
