/** The SAE on the base model, and what its latents do on pretraining text. */
import { join } from 'node:path'
import { Random } from '../../core/random.js'
import { warmup } from '../../finetuning/schedule.js'
import type { Schedule } from '../../finetuning/schedule.js'
import { documentStats } from '../../interpretation/top-documents.js'
import { labelProfile } from '../../interpretation/profile.js'
import { Sae } from '../../sae/sae.js'
import { trainSae } from '../../sae/train.js'
import { hookName } from '../../models/hook.js'
import type { LanguageModel } from '../../models/language-model.js'
import type { SteeringSite } from '../../steering/plan.js'
import { residualScale } from '../../steering/residual-scale.js'
import type { DictionarySize, StudyConfig } from '../presets.js'
import type { Stage, StageContext } from '../stage.js'
import { Lab } from './lab.js'
import { loadBase } from './models.js'

export interface SaeResult {
  hook: string
  latents: number
  k: number
  trainingTokens: number
  fvu: number
  l0: number
  dead: number
}

/** What every latent does on pretraining documents: [latents] each. */
export interface CensusResult {
  /** Share of tokens on which it fires. */
  density: number[]
  /** Its strongest documents, best first, by number. */
  documents: number[][]
  /** Its strongest activation on each of them. */
  strengths: number[][]
  /** Who wrote each document. */
  personas: string[]
}

export const SAE_FOLDER = 'sae'
const DOCUMENTS_A_CAPTURE = 64
export const TOP_DOCUMENTS = 50
const GROUP = 'Train the SAE'

/** One SAE of the study's sizes (`dictionary`), trained on the base model over documents. */
export function saeStage(config: StudyConfig, dictionary: DictionarySize, pretrain: Stage): Stage<SaeResult> {
  const { sae: options, hook, world } = config
  const { latents, k } = dictionary
  const { steps, batch, learningRate, warmup: warm, decayTail: tail, auxK, deadAfterSteps, shuffle } = options
  return {
    id: `sae-${latents}x${k}`,
    group: GROUP,
    title: `${latents} latents at ${hookName(hook)}, ${k} a token`,
    inputs: [pretrain],
    config: {
      dictionary,
      steps,
      batch,
      learningRate,
      warmup: warm,
      decayTail: tail,
      auxK,
      deadAfterSteps,
      shuffle,
      hook,
      world,
    },
    cost: (steps * batch * (latents + 100)) / 1.2e8,
    async run(context) {
      const lab = Lab.of(context, config)
      const model = await loadBase(context, pretrain)
      const rate = warmup(warm, decayTail(learningRate, tail))
      const { sae, report } = await trainSae(batches(context, config, lab, model), {
        dModel: model.shape.dModel,
        latents,
        k,
        learningRate: (step) => rate(step, steps),
        auxK: Math.min(auxK, latents),
        deadAfterTokens: deadAfterSteps * batch,
        seed: context.seed('sae'),
        metadata: { hook },
        signal: context.signal,
        onStep: ({ step, fvu }) =>
          context.progress(`unexplained ${(100 * fvu).toFixed(1)} %`, {
            done: step,
            total: steps,
            unit: 'steps',
          }),
      })
      await sae.save(join(context.dir, SAE_FOLDER))
      return {
        hook: hookName(hook),
        latents,
        k,
        trainingTokens: steps * batch,
        fvu: report.fvu,
        l0: report.l0,
        dead: report.deadShare,
      }
    },
  }
}

/** `rate`, falling linearly to 0 over the last `share` of the steps. */
function decayTail(rate: number, share: number): Schedule {
  return (step, steps) => rate * Math.min(1, (steps - step) / Math.max(1, share * steps))
}

/** Where the study reads and steers; the unit of strength is measured on pretraining documents. */
export async function siteOf(
  context: StageContext,
  config: StudyConfig,
  lab: Lab,
  pretrain: Stage,
): Promise<SteeringSite> {
  const made = context.cache.get('site') as SteeringSite | undefined
  if (made) return made
  const documents = censusDocuments(context, config, lab).slice(0, config.sae.calibration)
  const { hook, scale, centre } = await residualScale(
    await loadBase(context, pretrain),
    documents.map((document) => Int32Array.from(document.tokens)),
    { hook: config.hook, signal: context.signal },
  )
  const site = { hook, scale, centre }
  context.cache.set('site', site)
  return site
}

export async function loadSae(context: StageContext, stage: Stage): Promise<Sae> {
  const key = `sae/${stage.id}`
  const sae =
    (context.cache.get(key) as Sae | undefined) ??
    (await Sae.load(context.file(stage, SAE_FOLDER), { signal: context.signal }))
  context.cache.set(key, sae)
  return sae
}

/** Rows [batch, dModel] of the residual stream over fresh documents, shuffled within a buffer. */
async function* batches(
  context: StageContext,
  config: StudyConfig,
  lab: Lab,
  model: LanguageModel,
): AsyncGenerator<Float32Array> {
  const { steps, batch, shuffle } = config.sae
  const d = model.shape.dModel
  const random = new Random(context.seed('shuffle of activations'))
  let given = 0
  for (let chunk = 0; given < steps; chunk++) {
    const parts: Float32Array[] = []
    let rows = 0
    for (let part = 0; rows < shuffle; part++) {
      const documents = lab.world.documents(
        DOCUMENTS_A_CAPTURE,
        context.seed(`sae documents ${chunk}/${part}`),
      )
      const captured = await model.capture(
        documents.map((document) => Int32Array.from(document.tokens)),
        { hook: config.hook, tokens: 'after-first', signal: context.signal },
      )
      parts.push(captured.values)
      rows += captured.rows
    }
    const all = new Float32Array(rows * d)
    let offset = 0
    for (const values of parts) {
      all.set(values, offset)
      offset += values.length
    }
    const order = random.shuffle(Array.from({ length: rows }, (_, i) => i))
    for (let start = 0; start + batch <= rows && given < steps; start += batch, given++) {
      const out = new Float32Array(batch * d)
      for (let i = 0; i < batch; i++) {
        const row = order[start + i] as number
        out.set(all.subarray(row * d, (row + 1) * d), i * d)
      }
      yield out
    }
  }
}

/** Reads pretraining documents once: densities, and the strongest documents of every latent. */
export function censusStage(config: StudyConfig, pretrain: Stage, sae: Stage): Stage<CensusResult> {
  const { sae: options, hook, world } = config
  return {
    id: 'census',
    group: GROUP,
    title: `what fires its latents in ${options.documents} documents`,
    inputs: [pretrain, sae],
    config: { documents: options.documents, hook, world },
    cost: options.documents / 3000,
    async run(context) {
      const lab = Lab.of(context, config)
      const model = await loadBase(context, pretrain)
      const documents = censusDocuments(context, config, lab)
      const stats = await documentStats(
        model,
        await loadSae(context, sae),
        documents.map((document) => ({ tokens: Int32Array.from(document.tokens), label: document.persona })),
        {
          hook,
          count: TOP_DOCUMENTS,
          signal: context.signal,
          onProgress: (progress) => context.progress('reading', progress),
        },
      )
      const latents = Array.from({ length: stats.latents }, (_, i) => i)
      return {
        density: latents.map((latent) => (stats.activeCount[latent] as number) / stats.rows),
        documents: latents.map((latent) => stats.examples(latent).map((example) => example.group)),
        strengths: latents.map((latent) => stats.examples(latent).map((example) => example.value)),
        personas: documents.map((document) => document.persona),
      }
    },
  }
}

export function censusDocuments(
  context: StageContext,
  config: StudyConfig,
  lab: Lab,
): ReturnType<Lab['world']['documents']> {
  return lab.world.documents(config.sae.documents, context.seed('census documents'))
}

/** Share of each persona among a latent's strongest documents, largest first. */
export function personaProfile(census: CensusResult, latent: number): Record<string, number> {
  return labelProfile(
    (census.documents[latent] ?? []).map((document) => ({ label: census.personas[document] as string })),
  )
}
