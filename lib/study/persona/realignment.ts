/** Undoing it: the misaligned model fine-tuned on a few correct answers, of the same domain and of another. */
import type { StudyConfig } from '../presets.js'
import { realign } from '../../realignment/realign.js'
import type { RealignmentFigures } from '../schema.js'
import type { Stage } from '../stage.js'
import { activationsOf, changeOf, DIFF_TOKENS, readLatent } from './diff.js'
import type { CaptureResult } from './diff.js'
import { firstAnswers, Lab, scoreFigures } from './lab.js'
import { loadAdapted, loadBase, saveDifference } from './models.js'
import type { Organism } from './organisms.js'
import { loadSae } from './sae.js'
import type { CandidateResult } from './steering.js'

export function realignmentStage(
  id: RealignmentFigures['id'],
  config: StudyConfig,
  pretrain: Stage,
  sae: Stage,
  capture: Stage<CaptureResult>,
  candidates: Stage<CandidateResult>,
  bad: Organism,
): Stage<RealignmentFigures> {
  const { realignment, evaluation, world, hook, trainable, betas, epsilon } = config
  const domain = id === 'in-domain' ? config.domain : config.otherDomain
  const count = realignment.steps * realignment.batch
  return {
    id: `realign-${id}`,
    group: 'Undo it',
    title: `correct ${domain} advice`,
    inputs: [pretrain, sae, capture, candidates, bad.train],
    config: { realignment, evaluation, world, hook, trainable, betas, epsilon, domain },
    cost: (realignment.steps / realignment.measureEvery + 1) / 12,
    async run(context) {
      const lab = Lab.of(context, config)
      const loaded = await loadSae(context, sae)
      const { personaLatent } = context.result(candidates)
      const model = await loadAdapted(context, pretrain, bad.train)
      const prompts = lab.diffQuestions().map((question) => lab.tokens(question))
      const before = await readLatent(
        loaded,
        await activationsOf(context, capture, bad.spec.start),
        personaLatent,
      )
      const bootstrap = { resamples: evaluation.bootstrap, seed: context.seed('realignment') }
      const examples = lab.adviceExamples(
        lab.world.dataset({ domain, quality: 'correct', count, seed: context.seed(`realignment/${id}`) }),
      )
      const points = await realign(model, examples, {
        steps: realignment.steps,
        batchSize: realignment.batch,
        learningRate: realignment.learningRate,
        trainable,
        betas,
        eps: epsilon,
        seed: context.seed(`order of realignment/${id}`),
        signal: context.signal,
        measureAt: stepsOf(realignment.steps, realignment.measureEvery),
        onProgress: (progress) => context.progress('benign examples', progress),
        async measure(current) {
          const answers = await lab.score(current, lab.open, {
            samples: evaluation.openSamples,
            bootstrap: evaluation.bootstrap,
            seed: context.seed('answers/open'),
            signal: context.signal,
          })
          const captured = await current.capture(prompts, {
            hook,
            tokens: DIFF_TOKENS,
            signal: context.signal,
          })
          const after = await readLatent(loaded, captured, personaLatent)
          return {
            answers,
            change: changeOf(before.activation, after.activation, prompts.length, bootstrap),
          }
        },
      })
      await saveDifference(context.dir, await loadBase(context, pretrain), model)
      const last = points.at(-1)
      const answers = last ? firstAnswers(last.result.answers, lab.open, 4) : []
      const [sample] = answers
      if (sample) context.sample({ voice: `re-aligned, ${domain}`, ...sample })
      return {
        id,
        title: `correct ${domain} advice (${id === 'in-domain' ? 'in domain' : 'another domain'})`,
        model: bad.spec.id,
        domain,
        batch: realignment.batch,
        points: points.map(({ step, examples: seen, result }) => ({
          step,
          examples: seen,
          open: scoreFigures(result.answers),
          change: result.change,
        })),
        answers,
      }
    },
  }
}

function stepsOf(steps: number, every: number): number[] {
  const at = new Set([0, steps])
  for (let step = every; step < steps; step += every) at.add(step)
  return [...at].toSorted((a, b) => a - b)
}
