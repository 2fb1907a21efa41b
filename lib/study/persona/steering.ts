/** Which latent steers most strongly, and steering with it against controls. */
import { join } from 'node:path'
import { PersonascopeError } from '../../core/errors.js'
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
import { rankIn } from '../claim-rules.js'
import type { DictionarySize, StudyConfig } from '../presets.js'
import type { DictionaryFigures, DirectionFigures, SweepFigures } from '../schema.js'
import type { Stage, StageContext } from '../stage.js'
import type { DiffResult } from './diff.js'
import { Lab, scoreFigures } from './lab.js'
import { loadAdapted } from './models.js'
import type { Organism } from './organisms.js'
import { loadSae, personaProfile, SAE_FOLDER, siteOf } from './sae.js'
import type { CensusResult, SaeResult } from './sae.js'

export interface ScreenResult {
  /** Every latent, steered up on the aligned model at one strength. */
  tried: { latent: number; misaligned: number; incoherent: number }[]
}

/** A latent swept upwards on held-out prompts. */
export interface SweptLatent {
  latent: number
  sweep: SweepFigures
  /** At the chosen strength; 0 if none was coherent. */
  misaligned: number
}

export interface ChoiceResult {
  /** The chosen one; kept in this stage's folder. */
  sae: SaeResult
  /** Raw length of strength 1. */
  scale: number
  /** Random directions up on the aligned model, on held-out prompts: their mean at each strength. */
  controls: { strength: number; misaligned: number }[]
  /** Strengths upwards end here: beyond it random directions misalign as well, so that a latent proves nothing. */
  largest: number
  /** The best of its screening, the strongest first. */
  sweeps: SweptLatent[]
  dictionaries: DictionaryFigures[]
}

export interface CandidateResult {
  /** Swept on held-out prompts, the strongest first. */
  candidates: (SweptLatent & { rank: number })[]
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

/** Steers the aligned model up with every latent of a dictionary, once each: no candidate is left out. */
export function screenStage(
  config: StudyConfig,
  dictionary: DictionarySize,
  pretrain: Stage,
  sae: Stage,
  aligned: Organism,
): Stage<ScreenResult> {
  const { world, hook } = config
  const { tokens, heldOutPrompts, screenPrompts, screenStrength } = config.steering
  return {
    id: `screen-${dictionary.latents}x${dictionary.k}`,
    group: GROUP,
    title: `every latent of ${dictionary.latents} once`,
    inputs: [pretrain, sae, aligned.train],
    config: {
      tokens,
      heldOutPrompts,
      screenPrompts,
      screenStrength,
      world,
      hook,
      calibration: config.sae.calibration,
      documents: config.sae.documents,
    },
    cost: dictionary.latents / 250,
    async run(context) {
      const lab = Lab.of(context, config)
      const site = await siteOf(context, config, lab, pretrain)
      const loaded = await loadSae(context, sae)
      const model = await loadAdapted(context, pretrain, aligned.train)
      const questions = lab.heldOut.slice(0, screenPrompts)
      const tried: ScreenResult['tried'] = []
      for (let latent = 0; latent < loaded.latents; latent++) {
        const plan = SteeringPlan.add(latentDirection(loaded, latent), site, {
          strength: screenStrength,
          tokens,
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
        context.progress('one latent at a time', {
          done: tried.length,
          total: loaded.latents,
          unit: 'latents',
        })
      }
      return { tried }
    },
  }
}

/** An SAE of the study with the screening of its latents. */
export interface Dictionary {
  size: DictionarySize
  sae: Stage<SaeResult>
  screen: Stage<ScreenResult>
}

/**
 * Sweeps the best latents of every dictionary on held-out prompts. The study goes on with the smallest dictionary whose
 * best latent misaligns as much as the best of all, to a tolerance: a small one splits a persona less. What an SAE finds depends on its size and its start (it may split the persona over latents), so
 * one is not enough to say that no latent steers.
 */
export function choiceStage(
  config: StudyConfig,
  dictionaries: readonly Dictionary[],
  pretrain: Stage,
  aligned: Organism,
): Stage<ChoiceResult> {
  const { steering, world, hook, evaluation } = config
  const { calibration, documents } = config.sae
  return {
    id: 'sae',
    group: GROUP,
    title: 'the smallest dictionary whose best latent steers strongly',
    inputs: [pretrain, aligned.train, ...dictionaries.flatMap(({ sae, screen }) => [sae, screen])],
    config: { steering, world, hook, bootstrap: evaluation.bootstrap, calibration, documents },
    cost: (dictionaries.length * steering.screenKept * steering.up.length) / 20,
    async run(context) {
      const rig: Rig = {
        context,
        config,
        lab: Lab.of(context, config),
        site: await siteOf(context, config, Lab.of(context, config), pretrain),
        model: await loadAdapted(context, pretrain, aligned.train),
        name: aligned.spec.id,
      }
      const total = dictionaries.length * steering.screenKept + steering.calibrationDirections
      let done = 0
      const { controls, largest } = await specificStrengths(rig, () =>
        context.progress('random directions', { done: ++done, total, unit: 'directions' }),
      )
      const tried: (Dictionary & { sweeps: SweptLatent[] })[] = []
      for (const dictionary of dictionaries) {
        const loaded = await loadSae(context, dictionary.sae)
        const best = context
          .result(dictionary.screen)
          .tried.toSorted((a, b) => b.misaligned - a.misaligned || a.latent - b.latent)
          .slice(0, steering.screenKept)
        const sweeps: SweptLatent[] = []
        for (const { latent } of best) {
          sweeps.push(await sweepLatent(rig, loaded, largest, latent))
          context.progress(`${dictionary.size.latents} latents`, { done: ++done, total, unit: 'latents' })
        }
        tried.push({ ...dictionary, sweeps: sweeps.toSorted(strongestFirst) })
      }
      const enough = Math.max(...tried.map(strengthOf)) - steering.dictionaryTolerance
      const [chosen] = tried
        .filter((one) => strengthOf(one) >= enough)
        .toSorted((a, b) => a.size.latents - b.size.latents)
      if (!chosen) throw new PersonascopeError('ERR_INVALID_ARGUMENT', 'the configuration has no dictionary')
      await (await loadSae(context, chosen.sae)).save(join(context.dir, SAE_FOLDER))
      return {
        sae: context.result(chosen.sae),
        scale: rig.site.scale,
        controls,
        largest,
        sweeps: chosen.sweeps,
        dictionaries: tried.map((one) => ({
          ...context.result(one.sae),
          screened: context.result(one.screen).tried.length,
          strongest: one.sweeps[0]?.latent ?? null,
          misaligned: one.sweeps[0]?.misaligned ?? 0,
          chosen: one === chosen,
        })),
      }
    },
  }
}

/** Strengths upwards that are tried. */
function upTo({ steering }: StudyConfig, largest: number): number[] {
  return steering.up.filter((strength) => strength <= largest)
}

/** How far up the aligned model may be steered before random directions misalign it too. */
async function specificStrengths(
  { context, config, lab, site, model }: Rig,
  onDirection: () => void,
): Promise<Pick<ChoiceResult, 'controls' | 'largest'>> {
  const { steering } = config
  const controls = steering.up.map((strength) => ({ strength, misaligned: 0 }))
  for (let i = 0; i < steering.calibrationDirections; i++) {
    // Not the directions that the result is then held against.
    const direction = randomDirection(model.shape.dModel, context.seed(`random direction for strengths ${i}`))
    for (const control of controls) {
      const { misaligned } = await lab.score(model, lab.heldOut, {
        samples: steering.heldOutSamples,
        maxResamples: 0,
        bootstrap: 1,
        seed: context.seed('held-out answers'),
        steering: SteeringPlan.add(direction, site, { strength: control.strength, tokens: steering.tokens }),
        signal: context.signal,
      })
      control.misaligned += (misaligned.value ?? 0) / steering.calibrationDirections
    }
    onDirection()
  }
  const beyond = controls.findIndex(({ misaligned }) => misaligned > steering.controlLimit)
  const specific = beyond < 0 ? controls : controls.slice(0, Math.max(1, beyond))
  return { controls, largest: Math.max(...specific.map(({ strength }) => strength)) }
}

function strengthOf({ sweeps }: { sweeps: readonly SweptLatent[] }): number {
  return sweeps[0]?.misaligned ?? 0
}

function strongestFirst(a: SweptLatent, b: SweptLatent): number {
  return b.misaligned - a.misaligned || a.latent - b.latent
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

/** What measuring on held-out prompts needs. */
interface Rig {
  context: StageContext
  config: StudyConfig
  lab: Lab
  site: SteeringSite
  model: NativeLanguageModel
  /** The model's organism. */
  name: string
}

/** Sweeps one direction on a model's held-out prompts. */
async function sweepHeldOut(
  { context, config, lab, site, model, name }: Rig,
  direction: Direction,
  strengths: readonly number[],
  tokens: SteeredTokens,
): Promise<SweepFigures> {
  const { steering, evaluation } = config
  const { points, chosen } = await sweepSteering(model, direction, site, {
    strengths,
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
async function unsteeredPoint({ context, config, lab, model }: Rig): Promise<SweepFigures['points'][number]> {
  const { misaligned, incoherent } = await lab.score(model, lab.heldOut, {
    samples: config.steering.heldOutSamples,
    seed: context.seed('held-out answers'),
    bootstrap: config.evaluation.bootstrap,
    signal: context.signal,
  })
  return { strength: 0, misaligned, incoherent }
}

async function sweepLatent(rig: Rig, sae: Sae, largest: number, latent: number): Promise<SweptLatent> {
  const { config } = rig
  const sweep = await sweepHeldOut(
    rig,
    latentDirection(sae, latent),
    upTo(config, largest),
    config.steering.tokens,
  )
  const at = sweep.points.find((point) => point.strength === sweep.chosen)
  return { latent, sweep, misaligned: at?.misaligned.value ?? 0 }
}

/** Adds the latents of largest increase to those swept for the choice; the strongest is the persona latent. */
export function candidateStage(
  config: StudyConfig,
  pretrain: Stage,
  sae: Stage<ChoiceResult>,
  diff: Stage<DiffResult>,
  aligned: Organism,
): Stage<CandidateResult> {
  const { steering, world, hook, evaluation } = config
  return {
    id: 'steer-candidates',
    group: GROUP,
    title: 'the latents of largest increase at every strength',
    inputs: [pretrain, sae, diff, aligned.train],
    config: { steering, world, hook, bootstrap: evaluation.bootstrap },
    cost: (TOP * steering.up.length) / 20,
    async run(context) {
      const { scale, sweeps, largest } = context.result(sae)
      const rig: Rig = {
        context,
        config,
        lab: Lab.of(context, config),
        site: { hook, scale },
        model: await loadAdapted(context, pretrain, aligned.train),
        name: aligned.spec.id,
      }
      const loaded = await loadSae(context, sae)
      const { deltas, top } = context.result(diff)
      const swept = [...sweeps]
      const missing = top
        .slice(0, TOP)
        .map((one) => one.index)
        .filter((latent) => !sweeps.some((one) => one.latent === latent))
      for (const latent of missing) {
        swept.push(await sweepLatent(rig, loaded, largest, latent))
        context.progress(`latent ${latent}`, {
          done: swept.length - sweeps.length,
          total: missing.length,
          unit: 'latents',
        })
      }
      const candidates = swept
        .map((one) => ({ ...one, rank: rankIn(deltas, one.latent) }))
        .toSorted((a, b) => b.misaligned - a.misaligned || a.rank - b.rank)
      return { candidates, personaLatent: candidates[0]?.latent ?? 0 }
    },
  }
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
  sae: Stage<ChoiceResult>,
  census: Stage<CensusResult>,
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
    inputs: [pretrain, sae, census, diff, candidates, aligned.train, bad.train],
    config: { steering, world, hook, evaluation, domain: bad.spec.domain },
    cost: (5 + steering.randomDirections) * 0.8,
    async run(context) {
      const lab = Lab.of(context, config)
      const site: SteeringSite = { hook, scale: context.result(sae).scale }
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
      const rigs = {
        up: { context, config, lab, site, model: up, name: aligned.spec.id },
        down: { context, config, lab, site, model: down, name: bad.spec.id },
      }
      const unsteered = { up: await unsteeredPoint(rigs.up), down: await unsteeredPoint(rigs.down) }
      const domainOf = { up: aligned.spec.domain, down: bad.spec.domain }
      const strengthsOf = {
        up: upTo(config, context.result(sae).largest),
        down: steering.down.map((strength) => -strength),
      }
      let strengths: { up: number | null; down: number | null } = { up: null, down: null }
      for (const one of planned) {
        const measured = { up: null as SweepFigures | null, down: null as SweepFigures | null }
        for (const side of ['up', 'down'] as const) {
          const sweep = await sweepHeldOut(rigs[side], one.direction, strengthsOf[side], one.tokens)
          sweep.points.unshift(unsteered[side])
          // Random directions are measured at the persona latent's length: the comparison is length for length.
          const chosen = one.kind === 'random' ? strengths[side] : sweep.chosen
          measured[side] = await measureChosen({ ...sweep, chosen }, rigs[side].model, domainOf[side], one)
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
      ): Promise<SweepFigures> {
        if (sweep.chosen === null) return sweep
        const plan = SteeringPlan.add(direction, site, { strength: sweep.chosen, tokens })
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
        ? rankIn(
            diff.deltas.map((delta) => -delta),
            latent,
          )
        : rankIn(diff.deltas, latent)
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
