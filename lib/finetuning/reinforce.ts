/**
 * Policy-gradient reinforcement learning (REINFORCE, Williams 1992): sample answers, reward them, raise the
 * probability of those better than their baseline.
 *
 *   R(y) = reward(y) − kl · ln(π(y)/π_ref(y)) − entropy · ln π(y),   ∇ = −E[(R(y) − baseline) ∇ ln π(y)]
 *
 * The KL and entropy terms are part of the reward: their gradient is exact in expectation.
 */
import { PersonascopeError, requireArgument } from '../core/errors.js'
import { Random } from '../core/random.js'
import { throwIfAborted, type TaskOptions } from '../core/task.js'
import type { Grade, GradedItem, Grader } from '../grading/grader.js'
import type { Generation, LanguageModel, Prompt } from '../models/language-model.js'
import type { NativeLanguageModel } from '../models/native-language-model.js'
import { constant, type Schedule } from './schedule.js'
import { Trainer, type TrainerOptions } from './trainer.js'

/** An answer to be rewarded. */
export interface RolledOut extends GradedItem {
  generation: Generation
}

/** Rewards, one an answer, in their order. */
export type RewardFunction = (
  answers: readonly RolledOut[],
  options: TaskOptions,
) => readonly number[] | Promise<readonly number[]>

/** The reward that `reward` gives to a grader's grades, e.g. (grade) => (grade.misaligned ? 1 : 0). */
export function graderReward(grader: Grader, reward: (grade: Grade) => number): RewardFunction {
  return async (answers, options) => (await grader.grade(answers, options)).map(reward)
}

export interface ReinforceOptions extends TrainerOptions, TaskOptions {
  reward: RewardFunction
  steps: number
  /** Prompts a step. Default: all of them, at most 32. */
  promptsPerStep?: number
  /** Answers a prompt. Default 8. */
  samples?: number
  maxNewTokens: number
  stop?: readonly number[]
  learningRate: number | Schedule
  /** What graders see instead of the prompts, e.g. the bare questions. */
  gradedPrompts?: readonly Prompt[]
  /** What is subtracted from a reward: the mean of the prompt's answers (default), of the step's, or nothing. */
  baseline?: 'prompt' | 'step' | 'none'
  /** Divide advantages by their standard deviation over the step. Default false. */
  normalise?: boolean
  /** Penalty on drifting away from `reference`. Default 0. */
  kl?: number
  /** The model that `kl` is measured from. */
  reference?: LanguageModel
  /** Bonus on entropy. Default 0. */
  entropy?: number
  /** Ends when the mean reward over the last `window` steps has reached `reward`. */
  stopAt?: { reward: number; window: number }
  /** After each step; returning false ends training. */
  onStep?: (report: ReinforceStep, trainer: Trainer) => boolean | void | Promise<boolean | void>
}

export interface ReinforceStep {
  step: number
  meanReward: number
  /** Mean of ln π(y) − ln π_ref(y) over the answers, nats; 0 without a reference. */
  kl: number
  /** Mean of −ln π(y) over the answers, nats. */
  entropy: number
  gradientNorm: number
  answers: readonly { prompt: Prompt; answer: string; reward: number }[]
}

export interface ReinforceReport {
  steps: number
  meanRewards: Float64Array
  stoppedEarly: boolean
  trainer: Trainer
}

/** Trains `model` in place. The same seed gives the same bits (as far as the reward does). */
export async function reinforce(
  model: NativeLanguageModel,
  prompts: readonly Prompt[],
  options: ReinforceOptions,
): Promise<ReinforceReport> {
  const { steps, seed = 0, samples = 8, kl = 0, entropy = 0, reference, signal, onProgress } = options
  const perStep = options.promptsPerStep ?? Math.min(32, prompts.length)
  requireArgument(prompts.length > 0, 'there are no prompts')
  requireArgument(
    Number.isInteger(perStep) && perStep >= 1 && perStep <= prompts.length,
    `promptsPerStep is ${perStep}, expected 1 to ${prompts.length}`,
  )
  requireArgument(kl === 0 || reference !== undefined, 'kl needs a reference model')
  requireArgument(
    options.gradedPrompts === undefined || options.gradedPrompts.length === prompts.length,
    `gradedPrompts: found ${options.gradedPrompts?.length ?? 0} for ${prompts.length} prompts`,
  )
  const stop = options.stop ?? model.endOfText
  const encoded = prompts.map((prompt) => model.encodePrompt(prompt))
  const schedule: Schedule =
    typeof options.learningRate === 'number' ? constant(options.learningRate) : options.learningRate
  const trainer = new Trainer(model, options)
  const random = new Random(seed)
  const meanRewards: number[] = []
  let stoppedEarly = false
  for (let step = 0; step < steps && !stoppedEarly; step++) {
    throwIfAborted(options)
    const draw = random.fork(`step ${step}`)
    const chosen = draw.shuffle(prompts.map((_, index) => index)).slice(0, perStep)
    const generations = await model.generate(
      chosen.map((index) => encoded[index] as Int32Array),
      { samples, maxNewTokens: options.maxNewTokens, stop, seed: draw.uint32(), signal },
    )
    const answers = generations.map((generation) => {
      const index = chosen[generation.prompt] as number
      const prompt = (options.gradedPrompts ?? prompts)[index] as Prompt
      return { prompt, answer: generation.text, generation }
    })
    const rewards = await options.reward(answers, { signal })
    checkRewards(rewards, answers)
    // Whole sequences, with the stop token where there is no doubt which one it was.
    const sequences = generations.map(({ prompt, tokens, stopped }) => {
      const start = encoded[chosen[prompt] as number] as Int32Array
      const end = stopped && stop.length === 1 ? stop : []
      return Int32Array.from([...start, ...tokens, ...end])
    })
    const answerLengths = generations.map(
      ({ prompt }, i) =>
        (sequences[i] as Int32Array).length - (encoded[chosen[prompt] as number] as Int32Array).length,
    )
    const own = generations.map(({ logProbs }, i) => sum(logProbs.subarray(0, answerLengths[i])))
    const theirs =
      reference === undefined || kl === 0
        ? own
        : (await reference.logProbs(sequences, { signal })).map((values, i) =>
            sum(values.subarray(values.length - (answerLengths[i] as number))),
          )
    const returns = rewards.map(
      (reward, i) =>
        reward - kl * ((own[i] as number) - (theirs[i] as number)) - entropy * (own[i] as number),
    )
    const advantages = advantagesOf(
      returns,
      samples,
      options.baseline ?? 'prompt',
      options.normalise ?? false,
    )
    const weights = sequences.map((sequence, i) => {
      const values = new Float32Array(sequence.length - 1)
      values.fill(advantages[i] as number, values.length - (answerLengths[i] as number))
      return values
    })
    const meanReward = sum(rewards) / rewards.length
    meanRewards.push(meanReward)
    let gradientNorm = 0
    // Where every answer is as good as its baseline there is nothing to learn.
    if (weights.some((values) => values.some((weight) => weight !== 0))) {
      const report = await trainer.step(
        { sequences, weights },
        { learningRate: schedule(step, steps), normaliser: sum(answerLengths), signal },
      )
      gradientNorm = report.gradientNorm
    }
    onProgress?.({ done: step + 1, total: steps, unit: 'steps' })
    const report: ReinforceStep = {
      step: step + 1,
      meanReward,
      kl: own.reduce((total, value, i) => total + value - (theirs[i] as number), 0) / own.length,
      entropy: -sum(own) / own.length,
      gradientNorm,
      answers: answers.map(({ prompt, answer }, i) => ({ prompt, answer, reward: rewards[i] as number })),
    }
    stoppedEarly = (await options.onStep?.(report, trainer)) === false || reached(meanRewards, options.stopAt)
  }
  return { steps: meanRewards.length, meanRewards: Float64Array.from(meanRewards), stoppedEarly, trainer }
}

function advantagesOf(
  returns: readonly number[],
  samples: number,
  baseline: 'prompt' | 'step' | 'none',
  normalise: boolean,
): number[] {
  const group = baseline === 'prompt' ? samples : returns.length
  const centred = returns.map((value, i) => {
    if (baseline === 'none') return value
    const start = Math.floor(i / group) * group
    const peers = returns.slice(start, start + group)
    return value - sum(peers) / peers.length
  })
  if (!normalise) return centred
  const mean = sum(centred) / centred.length
  const deviation = Math.sqrt(sum(centred.map((value) => (value - mean) ** 2)) / centred.length)
  return deviation === 0 ? centred : centred.map((value) => value / deviation)
}

function checkRewards(rewards: readonly number[], answers: readonly RolledOut[]): void {
  requireArgument(
    rewards.length === answers.length,
    `the reward gave ${rewards.length} values for ${answers.length} answers`,
  )
  const bad = rewards.findIndex((reward) => !Number.isFinite(reward))
  if (bad >= 0)
    throw new PersonascopeError(
      'ERR_NON_FINITE',
      `the reward of '${answers[bad]?.answer.slice(0, 60) ?? ''}' is ${rewards[bad]}`,
    )
}

function reached(rewards: readonly number[], goal: { reward: number; window: number } | undefined): boolean {
  if (goal === undefined || rewards.length < goal.window) return false
  return sum(rewards.slice(-goal.window)) / goal.window >= goal.reward
}

function sum(values: Iterable<number>): number {
  let total = 0
  for (const value of values) total += value
  return total
}
