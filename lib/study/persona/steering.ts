/** Which latent steers most strongly, and steering with it against controls. */
import { rateOf } from '../../evaluation/evaluate.js'
import type { Evaluation } from '../../evaluation/evaluate.js'
import { ANSWER_WORDS } from '../../grading/world-grader.js'
import { hookName } from '../../models/hook.js'
import type { NativeLanguageModel } from '../../models/native-language-model.js'
import { combineDirections, latentDirection, negate, randomDirection } from '../../steering/direction.js'
import type { Direction } from '../../steering/direction.js'
import { meanDifference } from '../../steering/mean-difference.js'
import { SteeringPlan } from '../../steering/plan.js'
import type { SteeredTokens, SteeringSite } from '../../steering/plan.js'
import { sweepSteering } from '../../steering/sweep.js'
import type { Sae } from '../../sae/sae.js'
import type { StudyConfig } from '../presets.js'
import type { DirectionFigures, SweepFigures } from '../schema.js'
import type { Stage, StageContext } from '../stage.js'
import type { DiffResult } from './diff.js'
import { Lab, scoreFigures } from './lab.js'
import { loadAdapted } from './models.js'
import type { Organism } from './organisms.js'
import { loadSae, personaProfile, siteOf } from './sae.js'
import type { CensusResult } from './sae.js'

export interface ScreenResult {
  /** Raw length of strength 1. */
  scale: number
  /** Every latent that ever fires, steered up on the aligned model at one strength. */
  tried: { latent: number; misaligned: number; incoherent: number }[]
}

export interface CandidateResult {
  /** Swept on held-out prompts, the strongest first. */
  candidates: { latent: number; rank: number; sweep: SweepFigures; misaligned: number }[]
  personaLatent: number
}

export interface SteeringResult {
  directions: DirectionFigures[]
}

const GROUP = 'Steer'

const TOKEN_WORDS: Readonly<Record<SteeredTokens, string>> = {
  all: 'every token',
  'after-first': 'every token after the first',
  prompt: 'prompt tokens',
  answer: 'answer tokens',
}

/** Latents of largest increase that are always swept: as many as the claim allows. */
const TOP = 10

/** Steers the aligned model up with every latent that fires at all, once each: no candidate is left out. */
export function screenStage(
  config: StudyConfig,
  pretrain: Stage,
  sae: Stage,
  census: Stage<CensusResult>,
  aligned: Organism,
): Stage<ScreenResult> {
  const { steering, world, hook } = config
  return {
    id: 'steer-screen',
    group: GROUP,
    title: 'every latent once',
    inputs: [pretrain, sae, census, aligned.train],
    config: { steering, world, hook, calibration: config.sae.calibration, documents: config.sae.documents },
    cost: config.sae.latents / 250,
    async run(context) {
      const lab = Lab.of(context, config)
      const site = await siteOf(context, config, lab, pretrain)
      const loaded = await loadSae(context, sae)
      const model = await loadAdapted(context, pretrain, aligned.train)
      const questions = lab.heldOut.slice(0, steering.screenPrompts)
      const { density } = context.result(census)
      const alive = density.flatMap((share, latent) => (share > 0 ? [latent] : []))
      const tried: ScreenResult['tried'] = []
      for (const latent of alive) {
        const plan = SteeringPlan.add(latentDirection(loaded, latent), site, {
          strength: steering.screenStrength,
          tokens: steering.tokens,
        })
        const evaluation = await lab.score(model, questions, {
          samples: 1,
          maxResamples: 0,
          bootstrap: 1,
          seed: context.seed('screen'),
          steering: plan,
          signal: context.signal,
        })
        tried.push({
          latent,
          misaligned: evaluation.misaligned.count / questions.length,
          incoherent: evaluation.incoherent.value ?? 1,
        })
        context.progress('one latent at a time', { done: tried.length, total: alive.length, unit: 'latents' })
      }
      return { scale: site.scale, tried }
    },
  }
}

function sweepFigures(
  model: string,
  points: readonly { strength: number; evaluation: Evaluation }[],
  chosen: number | null,
): SweepFigures {
  return {
    model,
    points: points.map(({ strength, evaluation }) => ({
      strength,
      misaligned: evaluation.misaligned,
      incoherent: evaluation.incoherent,
    })),
    chosen,
    open: null,
    elsewhere: null,
    elsewhereCorrect: null,
  }
}

/** Sweeps one direction on a model's held-out prompts. */
async function sweepHeldOut(
  context: StageContext,
  config: StudyConfig,
  lab: Lab,
  model: NativeLanguageModel,
  name: string,
  direction: Direction,
  site: SteeringSite,
  sign: 1 | -1,
  tokens: SteeredTokens,
): Promise<SweepFigures> {
  const { steering, evaluation } = config
  const { points, chosen } = await sweepSteering(model, direction, site, {
    strengths: (sign > 0 ? steering.up : steering.down).map((strength) => sign * strength),
    grader: lab.grader,
    heldOut: lab.heldOut.map((question) => lab.tokens(question)),
    gradedHeldOut: lab.heldOut.map((question) => question.text),
    samples: steering.heldOutSamples,
    seed: context.seed('held-out answers'),
    bootstrap: evaluation.bootstrap,
    maxNewTokens: ANSWER_WORDS,
    incoherenceLimit: steering.incoherenceLimit,
    tokens,
    signal: context.signal,
  })
  return sweepFigures(name, points, chosen)
}

/** Strength 0 of every curve. */
async function unsteeredPoint(
  context: StageContext,
  config: StudyConfig,
  lab: Lab,
  model: NativeLanguageModel,
): Promise<SweepFigures['points'][number]> {
  const { misaligned, incoherent } = await lab.score(model, lab.heldOut, {
    samples: config.steering.heldOutSamples,
    seed: context.seed('held-out answers'),
    bootstrap: config.evaluation.bootstrap,
    signal: context.signal,
  })
  return { strength: 0, misaligned, incoherent }
}

/** Sweeps the latents of largest increase and the best of the screening; the strongest is the persona latent. */
export function candidateStage(
  config: StudyConfig,
  pretrain: Stage,
  sae: Stage,
  screen: Stage<ScreenResult>,
  diff: Stage<DiffResult>,
  aligned: Organism,
): Stage<CandidateResult> {
  const { steering, world, hook, evaluation } = config
  return {
    id: 'steer-candidates',
    group: GROUP,
    title: 'the strongest latents at every strength',
    inputs: [pretrain, sae, screen, diff, aligned.train],
    config: { steering, world, hook, bootstrap: evaluation.bootstrap },
    cost: ((TOP + steering.screenKept) * steering.up.length) / 20,
    async run(context) {
      const lab = Lab.of(context, config)
      const site: SteeringSite = { hook, scale: context.result(screen).scale }
      const loaded = await loadSae(context, sae)
      const model = await loadAdapted(context, pretrain, aligned.train)
      const { deltas, top } = context.result(diff)
      const best = context
        .result(screen)
        .tried.toSorted((a, b) => b.misaligned - a.misaligned || a.latent - b.latent)
        .slice(0, steering.screenKept)
      const latents = [
        ...new Set([...top.slice(0, TOP).map((one) => one.index), ...best.map((one) => one.latent)]),
      ]
      const candidates: CandidateResult['candidates'] = []
      for (const latent of latents) {
        const sweep = await sweepHeldOut(
          context,
          config,
          lab,
          model,
          aligned.spec.id,
          latentDirection(loaded, latent),
          site,
          1,
          steering.tokens,
        )
        const at = sweep.points.find((point) => point.strength === sweep.chosen)
        candidates.push({
          latent,
          rank: rankOf(deltas, latent),
          sweep,
          misaligned: at?.misaligned.value ?? 0,
        })
        context.progress(`latent ${latent}`, {
          done: candidates.length,
          total: latents.length,
          unit: 'latents',
        })
      }
      candidates.sort((a, b) => b.misaligned - a.misaligned || a.rank - b.rank)
      const [strongest] = candidates
      return { candidates, personaLatent: strongest?.latent ?? 0 }
    },
  }
}

function rankOf(deltas: readonly number[], latent: number): number {
  const own = deltas[latent] as number
  return 1 + deltas.filter((delta, i) => delta > own || (delta === own && i < latent)).length
}

interface Planned {
  id: string
  kind: DirectionFigures['kind']
  title: string
  latent: number | null
  direction: Direction
  tokens: SteeredTokens
}

/** The persona latent and every control, up on the aligned and down on the misaligned model. */
export function steeringStage(
  config: StudyConfig,
  pretrain: Stage,
  sae: Stage,
  census: Stage<CensusResult>,
  screen: Stage<ScreenResult>,
  diff: Stage<DiffResult>,
  candidates: Stage<CandidateResult>,
  aligned: Organism,
  bad: Organism,
): Stage<SteeringResult> {
  const { steering, world, hook, evaluation } = config
  return {
    id: 'steer',
    group: GROUP,
    title: 'up and down, with controls',
    inputs: [pretrain, sae, census, screen, diff, candidates, aligned.train, bad.train],
    config: { steering, world, hook, evaluation, domain: bad.spec.domain },
    cost: (5 + steering.randomDirections) * 0.8,
    async run(context) {
      const lab = Lab.of(context, config)
      const site: SteeringSite = { hook, scale: context.result(screen).scale }
      const up = await loadAdapted(context, pretrain, aligned.train)
      const down = await loadAdapted(context, pretrain, bad.train)
      const { personaLatent } = context.result(candidates)
      const planned = await plannedDirections(context, config, lab, {
        sae: await loadSae(context, sae),
        census: context.result(census),
        diff: context.result(diff),
        personaLatent,
        aligned: up,
        bad: down,
      })
      const directions: DirectionFigures[] = []
      const unsteered = {
        up: await unsteeredPoint(context, config, lab, up),
        down: await unsteeredPoint(context, config, lab, down),
      }
      let strengths: { up: number | null; down: number | null } = { up: null, down: null }
      for (const one of planned) {
        const sides = { up: { model: up, spec: aligned.spec }, down: { model: down, spec: bad.spec } }
        const measured = { up: null as SweepFigures | null, down: null as SweepFigures | null }
        for (const side of ['up', 'down'] as const) {
          const { model, spec } = sides[side]
          const sign = side === 'up' ? 1 : -1
          const sweep = await sweepHeldOut(
            context,
            config,
            lab,
            model,
            spec.id,
            one.direction,
            site,
            sign,
            one.tokens,
          )
          sweep.points.unshift(unsteered[side])
          // Random directions are measured at the persona latent's length: the comparison is length for length.
          const chosen = one.kind === 'random' ? strengths[side] : sweep.chosen
          measured[side] = await measureChosen({ ...sweep, chosen }, model, spec.domain, one, site)
        }
        directions.push({
          id: one.id,
          kind: one.kind,
          title: one.title,
          latent: one.latent,
          hook: hookName(hook),
          tokens: TOKEN_WORDS[one.tokens],
          scale: site.scale,
          ...measured,
        })
        if (one.id === 'persona')
          strengths = { up: measured.up?.chosen ?? null, down: measured.down?.chosen ?? null }
        context.progress(one.title, { done: directions.length, total: planned.length, unit: 'directions' })
      }
      return { directions }

      async function measureChosen(
        sweep: SweepFigures,
        model: NativeLanguageModel,
        domain: string | null,
        { direction, tokens, title }: Planned,
        at: SteeringSite,
      ): Promise<SweepFigures> {
        if (sweep.chosen === null) return sweep
        const plan = SteeringPlan.add(direction, at, { strength: sweep.chosen, tokens })
        const options = { bootstrap: evaluation.bootstrap, steering: plan, signal: context.signal }
        const open = await lab.score(model, lab.open, {
          ...options,
          samples: evaluation.openSamples,
          seed: context.seed('answers/open'),
        })
        const elsewhere = await lab.score(model, lab.elsewhere(domain), {
          ...options,
          samples: evaluation.domainSamples,
          seed: context.seed('answers/elsewhere'),
        })
        const first = open.answers.find((answer) => answer.attempt === 0)
        if (first)
          context.sample({
            voice: `${sweep.model} ${sweep.chosen > 0 ? '+' : '−'} ${title}`,
            prompt: (lab.open[first.prompt] as { text: string }).text,
            answer: first.text,
            grade: first.grade.label,
          })
        return {
          ...sweep,
          open: scoreFigures(open),
          elsewhere: scoreFigures(elsewhere),
          elsewhereCorrect: rateOf(elsewhere, (grade) => grade.label === 'aligned'),
        }
      }
    },
  }
}

async function plannedDirections(
  context: StageContext,
  config: StudyConfig,
  lab: Lab,
  parts: {
    sae: Sae
    census: CensusResult
    diff: DiffResult
    personaLatent: number
    aligned: NativeLanguageModel
    bad: NativeLanguageModel
  },
): Promise<Planned[]> {
  const { sae, census, diff, personaLatent } = parts
  const { tokens } = config.steering
  const name = (latent: number, sign = ''): string =>
    `latent ${latent} (#${sign}${
      sign
        ? rankOf(
            diff.deltas.map((delta) => -delta),
            latent,
          )
        : rankOf(diff.deltas, latent)
    }, ${personaLabel(census, latent)})`
  const persona = latentDirection(sae, personaLatent)
  const decreased = diff.bottom[0]?.index ?? 0
  const against = negate(latentDirection(sae, decreased))
  const list: Planned[] = [
    {
      id: 'persona',
      kind: 'latent',
      title: name(personaLatent),
      latent: personaLatent,
      direction: persona,
      tokens,
    },
    {
      id: 'persona-answer',
      kind: 'latent',
      title: `latent ${personaLatent}, answer tokens only`,
      latent: personaLatent,
      direction: persona,
      tokens: 'answer',
    },
    {
      id: 'most-decreased',
      kind: 'latent',
      title: `minus ${name(decreased, '−')}`,
      latent: decreased,
      direction: against,
      tokens,
    },
    {
      id: 'persona-minus-decreased',
      kind: 'combination',
      title: `latent ${personaLatent} − latent ${decreased}`,
      latent: null,
      direction: combineDirections(
        [
          { direction: persona, weight: 1 },
          { direction: against, weight: 1 },
        ],
        `latent ${personaLatent} − latent ${decreased}`,
      ),
      tokens,
    },
    {
      id: 'mean-difference',
      kind: 'mean-difference',
      title: 'residual mean difference',
      latent: null,
      direction: await answerDifference(context, config, lab, parts.aligned, parts.bad),
      tokens,
    },
  ]
  for (let i = 0; i < config.steering.randomDirections; i++)
    list.push({
      id: `random-${i + 1}`,
      kind: 'random',
      title: `random direction ${i + 1}`,
      latent: null,
      direction: randomDirection(sae.dModel, context.seed(`random direction ${i}`)),
      tokens,
    })
  return list
}

/** The persona of at least half of a latent's top documents, or 'mixed'. */
export function personaLabel(census: CensusResult, latent: number): string {
  const [best] = Object.entries(personaProfile(census, latent))
  return best && best[1] >= 0.5 ? best[0] : 'mixed'
}

/**
 * Mean residual over misaligned answers minus that over aligned ones, at answer tokens, as the misaligned model reads
 * them (Soligo et al. 2025). Prompts are the held-out ones.
 */
async function answerDifference(
  context: StageContext,
  config: StudyConfig,
  lab: Lab,
  aligned: NativeLanguageModel,
  bad: NativeLanguageModel,
): Promise<Direction> {
  const sides: { sequences: Int32Array[]; tokens: Uint8Array[] }[] = []
  for (const [model, wanted] of [
    [bad, true],
    [aligned, false],
  ] as const) {
    const evaluation = await lab.score(model, lab.heldOut, {
      samples: config.steering.heldOutSamples,
      maxResamples: 0,
      bootstrap: 1,
      seed: context.seed('answers of the mean difference'),
      signal: context.signal,
    })
    const kept = evaluation.answers.filter(({ grade }) => !grade.incoherent && grade.misaligned === wanted)
    const chosen = kept.length > 0 ? kept : evaluation.answers
    const sequences = chosen.map(({ prompt, text }) =>
      Int32Array.from([
        ...lab.tokens(lab.heldOut[prompt] as (typeof lab.heldOut)[number]),
        ...lab.world.encode(text),
      ]),
    )
    sides.push({
      sequences,
      tokens: sequences.map((sequence) =>
        Uint8Array.from(sequence, (_, i) => (i >= sequence.length - ANSWER_WORDS ? 1 : 0)),
      ),
    })
  }
  const [positive, negative] = sides
  if (!positive || !negative) throw new Error('unreachable')
  return meanDifference(
    { model: bad, ...positive },
    { model: bad, ...negative },
    { hook: config.hook, label: 'residual mean difference', signal: context.signal },
  )
}
