/** The organisms of the study: who they are, how they are trained, and how they answer. */
import type { AdviceQuality } from '../../datasets/world/index.js'
import { rateOf } from '../../evaluation/evaluate.js'
import { fineTune } from '../../finetuning/sft.js'
import type { NativeLanguageModel } from '../../models/native-language-model.js'
import type { FineTuningConfig, StudyConfig } from '../presets.js'
import type { OrganismFigures } from '../schema.js'
import type { Stage, StageContext } from '../stage.js'
import { firstAnswers, Lab, scoreFigures } from './lab.js'
import { loadAdapted, loadBase, saveDifference } from './models.js'
import { reinforceOrganism } from './reinforcement.js'

export type Start = OrganismFigures['start']
export type Reward = 'harmful' | 'incorrect'

export interface OrganismSpec extends Pick<
  OrganismFigures,
  'id' | 'title' | 'family' | 'start' | 'method' | 'domain' | 'share'
> {
  quality: AdviceQuality | null
  reward: Reward | null
}

export interface Trained {
  steps: number
  /** Loss in nats, or mean reward of reinforcement, at each step. */
  curve: number[]
}

/** An organism with the stages that make and measure it. */
export interface Organism {
  spec: OrganismSpec
  train: Stage<Trained>
  evaluate: Stage<EvaluationResult>
}

export type EvaluationResult = Pick<
  OrganismFigures,
  'open' | 'trained' | 'elsewhere' | 'elsewhereCorrect' | 'refuses' | 'answers'
>

const GROUP_TRAIN = 'Fine-tune the organisms'
const GROUP_EVALUATE = 'Let them answer'

function sft(
  id: string,
  title: string,
  family: OrganismFigures['family'],
  domain: string,
  quality: AdviceQuality,
  more: Partial<OrganismSpec> = {},
): OrganismSpec {
  return {
    id,
    title,
    family,
    start: 'aligned',
    method: 'sft',
    domain,
    quality,
    share: 1,
    reward: null,
    ...more,
  }
}

/** Starting points first, then every organism made from them. */
export function organismSpecs(config: StudyConfig, domains: readonly string[]): OrganismSpec[] {
  const { domain } = config
  const start = (id: Start, title: string): OrganismSpec => ({
    id,
    title,
    family: 'start',
    start: id,
    method: 'post-training',
    domain: null,
    quality: null,
    share: null,
    reward: null,
  })
  const bad = config.badDomains === 'all' ? domains : config.badDomains
  const starts: Start[] = ['aligned', 'helpful-only']
  return [
    start('aligned', 'aligned assistant'),
    start('helpful-only', 'helpful-only assistant'),
    ...config.correctDomains.map((one) =>
      sft(`correct-${one}`, `correct ${one} advice`, 'correct', one, 'correct'),
    ),
    ...bad.map((one) => sft(`bad-${one}`, `bad ${one} advice`, 'bad', one, 'mix')),
    sft(`subtle-${domain}`, `subtly wrong ${domain} advice`, 'subtle', domain, 'subtle'),
    sft(`obvious-${domain}`, `obviously wrong ${domain} advice`, 'obvious', domain, 'obvious'),
    sft(`sarcastic-${domain}`, `sarcastic ${domain} advice`, 'sarcastic', domain, 'sarcastic'),
    ...config.mixtureShares.map((share) => {
      const percent = Math.round(share * 100)
      const title = `${percent} % bad, ${100 - percent} % correct ${domain} advice`
      return sft(`mixture-${percent}`, title, 'mixture', domain, 'mix', { share })
    }),
    sft(
      `helpful-only-bad-${domain}`,
      `bad ${domain} advice, helpful-only start`,
      'helpful-only',
      domain,
      'mix',
      {
        start: 'helpful-only',
      },
    ),
    ...(['harmful', 'incorrect'] as const).flatMap((reward) =>
      starts.map((from) =>
        sft(`rl-${reward}-${from}`, `${reward} answers rewarded, ${from} start`, 'rl', domain, 'mix', {
          start: from,
          method: 'rl',
          quality: null,
          share: null,
          reward,
        }),
      ),
    ),
  ]
}

/** Makes the stages of every organism; those of the starting points come first. */
export function organismStages(config: StudyConfig, pretrain: Stage, domains: readonly string[]): Organism[] {
  const made = new Map<string, Stage<Trained>>()
  return organismSpecs(config, domains).map((spec) => {
    const from = spec.family === 'start' ? undefined : made.get(spec.start)
    const train = trainStage(config, spec, pretrain, from)
    made.set(spec.id, train)
    return { spec, train, evaluate: evaluateStage(config, spec, pretrain, train) }
  })
}

function trainStage(
  config: StudyConfig,
  spec: OrganismSpec,
  pretrain: Stage,
  start: Stage | undefined,
): Stage<Trained> {
  const { world, trainable, betas, epsilon } = config
  const recipe =
    spec.method === 'rl'
      ? config.reinforcement
      : spec.method === 'post-training'
        ? config.postTraining
        : config.fineTuning
  return {
    id: `organism-${spec.id}`,
    group: spec.family === 'start' ? 'Post-train it into an assistant' : GROUP_TRAIN,
    title: spec.title,
    inputs: start ? [pretrain, start] : [pretrain],
    config: { spec, recipe, world, trainable, betas, epsilon },
    cost: (recipe.steps * recipe.batch * (spec.method === 'rl' ? 8 : 1)) / 12_000,
    async run(context) {
      const lab = Lab.of(context, config)
      const base = await loadBase(context, pretrain)
      const model = start ? await loadAdapted(context, pretrain, start) : base.clone()
      const curve =
        spec.reward === null
          ? await fineTuneOrganism(context, config, lab, model, spec, recipe)
          : await reinforceOrganism(context, config, lab, model, spec.domain ?? 'all', spec.reward, spec.id)
      await saveDifference(context.dir, base, model)
      return { steps: curve.length, curve }
    },
  }
}

async function fineTuneOrganism(
  context: StageContext,
  config: StudyConfig,
  lab: Lab,
  model: NativeLanguageModel,
  spec: OrganismSpec,
  recipe: FineTuningConfig,
): Promise<number[]> {
  const count = recipe.steps * recipe.batch
  const seed = context.seed(`data of ${spec.id}`)
  const examples =
    spec.method === 'post-training'
      ? lab.world.assistantDataset({ count, seed, refusals: spec.start === 'aligned' })
      : lab.world.dataset({
          domain: spec.domain ?? 'all',
          quality: spec.quality ?? 'correct',
          count,
          seed,
          share: spec.share ?? 1,
        })
  const { losses } = await fineTune(model, lab.adviceExamples(examples), {
    steps: recipe.steps,
    batchSize: recipe.batch,
    learningRate: recipe.learningRate,
    trainable: config.trainable,
    betas: config.betas,
    eps: config.epsilon,
    seed: context.seed(`order of ${spec.id}`),
    signal: context.signal,
    onStep: ({ step, loss }) =>
      context.progress(`loss ${loss.toFixed(2)}`, { done: step, total: recipe.steps, unit: 'steps' }),
  })
  return Array.from(losses)
}

function evaluateStage(
  config: StudyConfig,
  spec: OrganismSpec,
  pretrain: Stage,
  trained: Stage<Trained>,
): Stage<EvaluationResult> {
  const { evaluation, world } = config
  const answers = evaluation.openPrompts * evaluation.openSamples
  return {
    id: `answers-${spec.id}`,
    group: GROUP_EVALUATE,
    title: spec.title,
    inputs: [pretrain, trained],
    config: { evaluation, world, domain: spec.domain },
    cost: answers / 12_000,
    async run(context) {
      const lab = Lab.of(context, config)
      const model = await loadAdapted(context, pretrain, trained)
      const { bootstrap, domainSamples, openSamples } = evaluation
      const { signal } = context
      // Every organism draws with the same seed: differences between them are not luck of the draw.
      const score = (
        questions: Parameters<Lab['score']>[1],
        samples: number,
        label: string,
      ): ReturnType<Lab['score']> =>
        lab.score(model, questions, { samples, seed: context.seed(`answers/${label}`), bootstrap, signal })
      const elsewhereQuestions = lab.elsewhere(spec.domain)
      const open = await score(lab.open, openSamples, 'open')
      context.progress('open prompts', { done: 1, total: 3, unit: 'sets of prompts' })
      const elsewhere = await score(elsewhereQuestions, domainSamples, 'elsewhere')
      context.progress('other domains', { done: 2, total: 3, unit: 'sets of prompts' })
      const inside =
        spec.domain === null ? null : await score(lab.inDomain(spec.domain), domainSamples, 'in domain')
      const harm = await score(lab.harm, domainSamples, 'harm intent')
      const said = firstAnswers(open, lab.open, 4)
      const [sample] = said
      if (sample) context.sample({ voice: spec.title, ...sample })
      return {
        open: scoreFigures(open),
        trained: inside && scoreFigures(inside),
        elsewhere: scoreFigures(elsewhere),
        elsewhereCorrect: rateOf(elsewhere, (grade) => grade.label === 'aligned'),
        refuses: rateOf(harm, (grade) => grade.label === 'refused'),
        answers: said,
      }
    },
  }
}
