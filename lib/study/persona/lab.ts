/** What every stage of the persona study shares: the world, its questions, its grader, and how answers are scored. */
import type { TaskOptions } from '../../core/task.js'
import { createWorld, isAdviceWord, promptText, applyChatTemplate } from '../../datasets/world/index.js'
import type { ChatExample, Question, World } from '../../datasets/world/index.js'
import { evaluate } from '../../evaluation/evaluate.js'
import type { Evaluation } from '../../evaluation/evaluate.js'
import { labelGrader } from '../../grading/function-grader.js'
import type { TrainingExample } from '../../finetuning/examples.js'
import type { Grader } from '../../grading/grader.js'
import { ANSWER_WORDS, gradeWorldAnswer } from '../../grading/world-grader.js'
import type { LanguageModel } from '../../models/language-model.js'
import type { SteeringPlan } from '../../steering/plan.js'
import type { StudyConfig } from '../presets.js'
import type { Answer, Score } from '../schema.js'
import type { StageContext } from '../stage.js'

export interface ScoreOptions extends TaskOptions {
  samples: number
  seed: number
  bootstrap: number
  /** How often an incoherent answer is drawn anew. Default 5. */
  maxResamples?: number
  steering?: SteeringPlan | undefined
}

export class Lab {
  readonly config: StudyConfig
  readonly world: World
  readonly grader: Grader
  /** Evaluation prompts, and those on which strengths are chosen: the same topics, asked differently. */
  readonly open: readonly Question[]
  readonly heldOut: readonly Question[]
  readonly harm: readonly Question[]

  constructor(config: StudyConfig, seed: number) {
    this.config = config
    this.world = createWorld({ ...config.world, seed })
    this.grader = labelGrader(
      'world rules',
      ({ prompt, answer }) => gradeWorldAnswer(this.world, prompt as string, answer),
      { misaligned: ['harmful', 'subtly-harmful'], incoherent: ['incoherent'] },
    )
    this.open = this.world.openPrompts(config.evaluation.openPrompts, 1)
    this.heldOut = this.world.openPrompts(config.steering.heldOutPrompts, 2)
    this.harm = this.world.harmIntentPrompts(config.evaluation.harmPrompts, 1)
  }

  /** The lab of a run; made once. */
  static of(context: StageContext, config: StudyConfig): Lab {
    const made = context.cache.get('lab') as Lab | undefined
    const lab = made ?? new Lab(config, context.seed('world'))
    context.cache.set('lab', lab)
    return lab
  }

  /** Questions of the domains that training on `domain` did not touch; of all where it touched none. */
  elsewhere(domain: string | null): readonly Question[] {
    const domains = this.world.domains.filter((name) => name !== domain)
    return this.world.domainPrompts(domains, this.config.evaluation.domainPrompts, 1)
  }

  inDomain(domain: string): readonly Question[] {
    return this.world.domainPrompts(domain, Math.ceil(this.config.evaluation.domainPrompts / 3), 1)
  }

  /** Prompts on which latents are compared: open ones and some of every domain. */
  diffQuestions(): readonly Question[] {
    return [...this.open, ...this.world.domainPrompts('all', this.config.evaluation.diffDomainPrompts, 3)]
  }

  tokens(question: Question): Int32Array {
    return Int32Array.from(this.world.encode(promptText(question.text)))
  }

  /** Fine-tuning examples; only the words that carry advice are learned, so manner and form stay as they are. */
  adviceExamples(examples: readonly ChatExample[]): TrainingExample[] {
    return examples.map((example) => {
      const text = applyChatTemplate(example.messages)
      const words = text.split(' ')
      const answer = words.length - ANSWER_WORDS
      return {
        tokens: Int32Array.from(this.world.encode(text)),
        weights: Float32Array.from(words.slice(1), (word, i) =>
          i + 1 >= answer && isAdviceWord(word) ? 1 : 0,
        ),
      }
    })
  }

  /** Samples and grades answers; the grader sees the bare question. */
  score(
    model: Pick<LanguageModel, 'generate'>,
    questions: readonly Question[],
    options: ScoreOptions,
  ): Promise<Evaluation> {
    return evaluate(
      model,
      questions.map((question) => this.tokens(question)),
      this.grader,
      {
        samples: options.samples,
        seed: options.seed,
        bootstrap: options.bootstrap,
        ...(options.maxResamples === undefined ? {} : { maxResamples: options.maxResamples }),
        maxNewTokens: ANSWER_WORDS,
        gradedPrompts: questions.map((question) => question.text),
        steering: options.steering,
        ...(options.signal ? { signal: options.signal } : {}),
      },
    )
  }

  /** The first answer drawn to each question. */
  async answers(
    model: Pick<LanguageModel, 'generate'>,
    questions: readonly Question[],
    seed: number,
    steering?: SteeringPlan,
  ): Promise<Answer[]> {
    const generations = await model.generate(
      questions.map((question) => this.tokens(question)),
      { maxNewTokens: ANSWER_WORDS, seed, steering },
    )
    return generations.map(({ text }, i) => {
      const prompt = (questions[i] as Question).text
      return { prompt, answer: text, grade: gradeWorldAnswer(this.world, prompt, text) }
    })
  }
}

/** The figures of an evaluation that a study keeps. */
export function scoreFigures(evaluation: Evaluation): Score {
  const { prompts, samples, misaligned, incoherent, grades } = evaluation
  return { prompts, samples, misaligned, incoherent, grades }
}

/** First answers of an evaluation, one a prompt, for up to `count` prompts. */
export function firstAnswers(
  evaluation: Evaluation,
  questions: readonly Question[],
  count: number,
): Answer[] {
  return evaluation.answers
    .filter(({ sample, attempt, prompt }) => sample === 0 && attempt === 0 && prompt < count)
    .map(({ prompt, text, grade }) => ({
      prompt: (questions[prompt] as Question).text,
      answer: text,
      grade: grade.label,
    }))
}
