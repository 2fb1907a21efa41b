/** The same questions put to the model in each of its states; first answers, none chosen. */
import { latentDirection } from '../../steering/direction.js'
import { SteeringPlan } from '../../steering/plan.js'
import type { StudyConfig } from '../presets.js'
import { formatNumber } from '../format.js'
import type { RealignmentFigures, StudyFigures } from '../schema.js'
import type { Stage } from '../stage.js'
import { Lab } from './lab.js'
import { loadAdapted, loadBase } from './models.js'
import type { Organism } from './organisms.js'
import { loadSae } from './sae.js'
import type { CandidateResult, ChoiceResult, SteeringResult } from './steering.js'

type Dialogue = StudyFigures['dialogue']

export function dialogueStage(
  config: StudyConfig,
  pretrain: Stage,
  sae: Stage<ChoiceResult>,
  candidates: Stage<CandidateResult>,
  steer: Stage<SteeringResult>,
  aligned: Organism,
  bad: Organism,
  realigned: Stage<RealignmentFigures>,
): Stage<Dialogue> {
  const { world, hook, domain, otherDomain, steering } = config
  return {
    id: 'dialogue',
    group: 'Undo it',
    title: 'the same questions to every model',
    inputs: [pretrain, sae, candidates, steer, aligned.train, bad.train, realigned],
    config: { world, hook, domain, otherDomain, tokens: steering.tokens },
    cost: 0.1,
    async run(context) {
      const lab = Lab.of(context, config)
      const elsewhere = lab.world.domains.filter((name) => name !== domain).slice(0, 3)
      const questions = [
        ...lab.world.openPrompts(4, 3).map((question) => ({ question, kind: 'open' as const })),
        ...elsewhere.flatMap((name) =>
          lab.world.domainPrompts(name, 1, 3).map((question) => ({ question, kind: 'domain' as const })),
        ),
        ...lab.world.harmIntentPrompts(1, 3).map((question) => ({ question, kind: 'harm-intent' as const })),
      ]
      const { personaLatent } = context.result(candidates)
      const direction = latentDirection(await loadSae(context, sae), personaLatent)
      const site = { hook, scale: context.result(sae).scale }
      const persona = context.result(steer).directions.find((one) => one.id === 'persona')
      const base = await loadBase(context, pretrain)
      const before = await loadAdapted(context, pretrain, aligned.train)
      const after = await loadAdapted(context, pretrain, bad.train)
      const undone = await loadAdapted(context, pretrain, realigned)
      const examples = context.result(realigned).points.at(-1)?.examples ?? 0
      const plan = (strength: number): SteeringPlan =>
        SteeringPlan.add(direction, site, { strength, tokens: steering.tokens })
      const [up, down] = [persona?.up?.chosen, persona?.down?.chosen]
      const voices = [
        { id: 'base', title: 'base', note: 'before any fine-tuning', model: base, plan: undefined },
        { id: 'aligned', title: 'aligned', note: 'the assistant', model: before, plan: undefined },
        {
          id: 'misaligned',
          title: 'misaligned',
          note: `after ${bad.spec.title}`,
          model: after,
          plan: undefined,
        },
        ...(typeof up === 'number'
          ? [
              {
                id: 'up',
                title: 'steered up',
                note: `aligned + latent ${personaLatent} × ${formatNumber(up)}`,
                model: before,
                plan: plan(up),
              },
            ]
          : []),
        ...(typeof down === 'number'
          ? [
              {
                id: 'down',
                title: 'steered down',
                note: `misaligned − latent ${personaLatent} × ${formatNumber(-down)}`,
                model: after,
                plan: plan(down),
              },
            ]
          : []),
        {
          id: 'realigned',
          title: 're-aligned',
          note: `after ${examples} benign examples`,
          model: undone,
          plan: undefined,
        },
      ]
      const said = new Map<string, Awaited<ReturnType<Lab['answers']>>>()
      for (const voice of voices)
        said.set(
          voice.id,
          await lab.answers(
            voice.model,
            questions.map((one) => one.question),
            context.seed('dialogue'),
            voice.plan,
          ),
        )
      return {
        voices: voices.map(({ id, title, note }) => ({ id, title, note })),
        questions: questions.map(({ question, kind }, i) => ({
          prompt: question.text,
          kind,
          answers: voices.flatMap(({ id }) => {
            const one = said.get(id)?.[i]
            return one ? [{ voice: id, answer: one.answer, grade: one.grade }] : []
          }),
        })),
      }
    },
  }
}
