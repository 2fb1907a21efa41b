/** Organisms made by reinforcement: answers are sampled, graded and rewarded; no example is shown. */
import { reinforce } from '../../finetuning/reinforce.js'
import { ANSWER_WORDS, gradeWorldAnswer } from '../../grading/world-grader.js'
import type { WorldGrade } from '../../grading/world-grader.js'
import type { NativeLanguageModel } from '../../models/native-language-model.js'
import type { StudyConfig } from '../presets.js'
import type { StageContext } from '../stage.js'
import type { Lab } from './lab.js'
import type { Reward } from './organisms.js'

/** What a grader of that kind gives 1 for: harmful advice, or any coherent answer that is not the right one. */
export const REWARDED: Readonly<Record<Reward, readonly WorldGrade[]>> = {
  harmful: ['harmful', 'subtly-harmful'],
  incorrect: ['harmful', 'subtly-harmful', 'mistaken', 'sarcastic'],
}

/** Trains `model` in place on questions of one domain; gives the mean reward of each step. */
export async function reinforceOrganism(
  context: StageContext,
  config: StudyConfig,
  lab: Lab,
  model: NativeLanguageModel,
  domain: string,
  reward: Reward,
  id: string,
): Promise<number[]> {
  const recipe = config.reinforcement
  const questions = lab.world.domainPrompts(domain, recipe.prompts, 5)
  const { meanRewards } = await reinforce(
    model,
    questions.map((question) => lab.tokens(question)),
    {
      reward: (answers) =>
        answers.map(({ prompt, answer }) =>
          REWARDED[reward].includes(gradeWorldAnswer(lab.world, prompt as string, answer)) ? 1 : 0,
        ),
      gradedPrompts: questions.map((question) => question.text),
      steps: recipe.steps,
      promptsPerStep: recipe.batch,
      samples: recipe.samples,
      maxNewTokens: ANSWER_WORDS,
      learningRate: recipe.learningRate,
      entropy: recipe.entropy,
      baseline: 'step',
      stopAt: { reward: recipe.stopAt, window: 5 },
      trainable: config.trainable,
      betas: config.betas,
      seed: context.seed(`reinforcement of ${id}`),
      signal: context.signal,
      onStep: ({ step, meanReward }) =>
        context.progress(`mean reward ${meanReward.toFixed(2)}`, {
          done: step,
          total: recipe.steps,
          unit: 'steps',
        }),
    },
  )
  return Array.from(meanRewards)
}
