import { PersonascopeError, requireArgument } from '../core/errors.js'
import { Random } from '../core/random.js'
import { throwIfAborted, type TaskOptions } from '../core/task.js'
import type { Grade, Grader } from '../grading/grader.js'
import type { GenerateOptions, LanguageModel, Prompt } from '../models/language-model.js'
import { bootstrapRatio, type BootstrapOptions, type Rate } from './bootstrap.js'

export interface EvaluateOptions
  extends
    TaskOptions,
    Pick<
      GenerateOptions,
      'steering' | 'maxNewTokens' | 'temperature' | 'topP' | 'topK' | 'stop' | 'batchSize'
    > {
  /** Answers a prompt. Default 1. */
  samples?: number
  /**
   * How often an incoherent answer is drawn anew. Default 5. With temperature 0 it is never drawn anew, as it would
   * come out the same.
   */
  maxResamples?: number
  /** Seed of answers and intervals. Default 0. */
  seed?: number
  /** What the grader is shown instead of the prompts, e.g. the bare questions; one a prompt. */
  gradedPrompts?: readonly Prompt[]
  /** Resamples of the bootstrap. Default 2000. */
  bootstrap?: number
  /** Default 0.95. */
  confidence?: number
}

/** One drawn answer. */
export interface EvaluatedAnswer {
  /** Index of the prompt and of the sample. */
  prompt: number
  sample: number
  /** 0 is the first draw; n the nth draw after an incoherent one. */
  attempt: number
  /** Whether it is the last draw of its (prompt, sample): the one that misalignment counts, if coherent. */
  final: boolean
  text: string
  grade: Grade
}

/** Plain data, fit for JSON. */
export interface Evaluation {
  /** Number of prompts, and of samples a prompt. */
  prompts: number
  samples: number
  /**
   * Share of misaligned answers among the coherent ones, after incoherent ones were drawn anew (up to
   * `maxResamples` times). Those that never became coherent are in neither count.
   */
  misaligned: Rate
  /** Share of incoherent answers among the first draws. */
  incoherent: Rate
  /** First draws by label. */
  grades: Record<string, number>
  /** (prompt, sample) pairs that never became coherent. */
  unresolved: number
  /** Every draw, ordered by prompt, sample, attempt. */
  answers: EvaluatedAnswer[]
  /** How the intervals were made. */
  intervals: { resamples: number; seed: number; confidence: number }
}

/**
 * Samples answers to the prompts, grades them, draws incoherent ones anew (Wang et al. 2025, section 2), and gives
 * misalignment and incoherence with percentile bootstrap intervals over prompts. The same seed gives the same result.
 *
 * Errors: those of the model and the grader; `ERR_INVALID_ARGUMENT`; `ERR_ABORTED`.
 */
export async function evaluate(
  model: Pick<LanguageModel, 'generate'>,
  prompts: readonly Prompt[],
  grader: Grader,
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  const { samples = 1, maxResamples = 5, seed = 0, temperature = 1 } = options
  requireArgument(prompts.length > 0, 'prompts: found none')
  requirePositive('samples', samples, 1)
  requirePositive('maxResamples', maxResamples, 0)
  const shown = options.gradedPrompts ?? prompts
  requireArgument(
    shown.length === prompts.length,
    `gradedPrompts: found ${shown.length}, expected ${prompts.length}, one a prompt`,
  )
  const generation = generateOptions(options)
  const random = new Random(seed)
  const answers: EvaluatedAnswer[] = []
  /** (prompt, sample) of the answers still to be drawn. */
  let wanted = prompts.flatMap((_, prompt) =>
    Array.from({ length: samples }, (__, sample) => ({ prompt, sample })),
  )
  const total = wanted.length
  const attempts = temperature === 0 ? 0 : maxResamples
  for (let attempt = 0; wanted.length > 0 && attempt <= attempts; attempt++) {
    throwIfAborted(options)
    const drawn =
      attempt === 0
        ? await model.generate(prompts, { ...generation, samples, seed })
        : await model.generate(
            wanted.map(({ prompt }) => prompts[prompt] as Prompt),
            { ...generation, samples: 1, seed: random.fork(`resample ${attempt}`).uint32() },
          )
    const texts = drawn.map(({ text }) => text)
    requireCount('answers from the model', texts.length, wanted.length)
    const grades = await grader.grade(
      wanted.map(({ prompt }, i) => ({ prompt: shown[prompt] as Prompt, answer: texts[i] as string })),
      { signal: options.signal },
    )
    requireCount(`grades from the grader '${grader.name}'`, grades.length, wanted.length)
    const again: typeof wanted = []
    for (const [i, slot] of wanted.entries()) {
      const grade = grades[i] as Grade
      const final = !grade.incoherent || attempt === attempts
      answers.push({ ...slot, attempt, final, text: texts[i] as string, grade })
      if (!final) again.push(slot)
    }
    wanted = again
    options.onProgress?.({ done: total - wanted.length, total, unit: 'answers' })
  }
  answers.sort((a, b) => a.prompt - b.prompt || a.sample - b.sample || a.attempt - b.attempt)
  return summarise(prompts.length, samples, answers, {
    resamples: options.bootstrap ?? 2000,
    seed,
    confidence: options.confidence ?? 0.95,
  })
}

/** The score alone, without the answers. */
export function scoreOf(
  evaluation: Evaluation,
): Pick<Evaluation, 'prompts' | 'samples' | 'misaligned' | 'incoherent' | 'grades'> {
  const { prompts, samples, misaligned, incoherent, grades } = evaluation
  return { prompts, samples, misaligned, incoherent, grades }
}

/** Share of first draws whose grade has a property, e.g. a label, with its interval. */
export function rateOf(evaluation: Evaluation, has: (grade: Grade) => boolean): Rate {
  const first = evaluation.answers.filter(({ attempt }) => attempt === 0)
  return ratio(evaluation.prompts, first, ({ grade }) => has(grade), evaluation.intervals)
}

function summarise(
  prompts: number,
  samples: number,
  answers: EvaluatedAnswer[],
  intervals: Evaluation['intervals'],
): Evaluation {
  const first = answers.filter(({ attempt }) => attempt === 0)
  const last = answers.filter(({ final }) => final)
  const coherent = last.filter(({ grade }) => !grade.incoherent)
  const labels = first.map(({ grade }) => grade.label).toSorted()
  const grades: Record<string, number> = {}
  for (const label of labels) grades[label] = (grades[label] ?? 0) + 1
  return {
    prompts,
    samples,
    misaligned: ratio(prompts, coherent, ({ grade }) => grade.misaligned, intervals),
    incoherent: ratio(prompts, first, ({ grade }) => grade.incoherent, intervals),
    grades,
    unresolved: last.length - coherent.length,
    answers,
    intervals,
  }
}

function ratio(
  prompts: number,
  answers: readonly EvaluatedAnswer[],
  counts: (answer: EvaluatedAnswer) => boolean,
  options: BootstrapOptions,
): Rate {
  const numerators = Array<number>(prompts).fill(0)
  const denominators = Array<number>(prompts).fill(0)
  for (const answer of answers) {
    denominators[answer.prompt] = (denominators[answer.prompt] ?? 0) + 1
    if (counts(answer)) numerators[answer.prompt] = (numerators[answer.prompt] ?? 0) + 1
  }
  return bootstrapRatio(numerators, denominators, options)
}

/** The options that generation takes, without those left out (they have defaults there). */
function generateOptions(options: EvaluateOptions): GenerateOptions {
  const { steering, maxNewTokens, temperature, topP, topK, stop, batchSize, signal } = options
  const entries = Object.entries({ steering, maxNewTokens, temperature, topP, topK, stop, batchSize, signal })
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined))
}

function requirePositive(name: string, value: number, least: number): void {
  requireArgument(
    Number.isSafeInteger(value) && value >= least,
    `${name}: found ${value}, expected a whole number of at least ${least}`,
  )
}

function requireCount(what: string, found: number, expected: number): void {
  if (found !== expected)
    throw new PersonascopeError('ERR_INTERNAL', `${what}: found ${found}, expected ${expected}`)
}
