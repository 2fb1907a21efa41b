/** Captures every organism on the evaluation prompts and ranks the latents by change. */
import { join } from 'node:path'
import { bootstrapMean } from '../../evaluation/bootstrap.js'
import { diffLatents } from '../../diffing/diff.js'
import { LatentStats } from '../../diffing/latent-stats.js'
import { SafetensorsFile, writeSafetensors } from '../../io/safetensors.js'
import type { CapturedActivations } from '../../models/language-model.js'
import type { Sae } from '../../sae/sae.js'
import type { StudyConfig } from '../presets.js'
import type { Change, RankedLatent } from '../schema.js'
import type { Stage, StageContext } from '../stage.js'
import { Lab } from './lab.js'
import { loadAdapted } from './models.js'
import type { Organism } from './organisms.js'
import { loadSae } from './sae.js'

export interface CaptureResult {
  prompts: number
  /** The first so many prompts are the open ones. */
  open: number
}

export interface DiffResult {
  prompts: number
  organisms: string[]
  deltas: number[]
  top: RankedLatent[]
  bottom: RankedLatent[]
  signatures: { organism: string; latents: { index: number; delta: number }[] }[]
}

const ACTIVATIONS = 'activations.safetensors'
const PROMPT_OF_ROW = 'prompt of row'
/** The first token, the same everywhere, is an attention sink: it says nothing about a persona. */
export const DIFF_TOKENS = 'after-first'
const RANKED = 20
const SIGNATURE = 5
const GROUP = 'Compare latents'

/** The residual stream of every organism over the prompts' tokens: one tensor [rows, dModel] each, and the prompt of each row. */
export function captureStage(
  config: StudyConfig,
  pretrain: Stage,
  organisms: readonly Organism[],
): Stage<CaptureResult> {
  const { hook, world, evaluation } = config
  return {
    id: 'capture',
    group: GROUP,
    title: 'residual stream at the tokens of every prompt',
    inputs: [pretrain, ...organisms.map((one) => one.train)],
    config: {
      hook,
      world,
      tokens: DIFF_TOKENS,
      open: evaluation.openPrompts,
      domain: evaluation.diffDomainPrompts,
    },
    cost: organisms.length / 80,
    async run(context) {
      const lab = Lab.of(context, config)
      const sequences = lab.diffQuestions().map((question) => lab.tokens(question))
      const tensors: Parameters<typeof writeSafetensors>[1][number][] = []
      for (const [i, { spec, train }] of organisms.entries()) {
        const model = await loadAdapted(context, pretrain, train)
        const { values, sequence, rows, dModel } = await model.capture(sequences, {
          hook,
          tokens: DIFF_TOKENS,
          signal: context.signal,
        })
        tensors.push({ name: spec.id, dtype: 'F32', shape: [rows, dModel], data: values })
        // The prompts are the same for all.
        if (i === 0) tensors.push({ name: PROMPT_OF_ROW, dtype: 'U32', shape: [rows], data: sequence })
        context.progress(spec.title, { done: i + 1, total: organisms.length, unit: 'models' })
      }
      await writeSafetensors(join(context.dir, ACTIVATIONS), tensors)
      return { prompts: sequences.length, open: lab.open.length }
    },
  }
}

/** Rows of the residual stream, and the prompt that each is of. */
export type PromptActivations = Pick<CapturedActivations, 'values' | 'sequence'>

export async function activationsOf(
  context: StageContext,
  capture: Stage,
  organism: string,
): Promise<PromptActivations> {
  const file = SafetensorsFile.open(context.file(capture, ACTIVATIONS))
  return {
    values: await file.f32(organism, { signal: context.signal }),
    sequence: file.view(PROMPT_OF_ROW) as Uint32Array,
  }
}

/** Numbers the latents by their increase, averaged over the organisms of bad advice; ranks both ends. */
export function diffStage(
  config: StudyConfig,
  sae: Stage,
  capture: Stage<CaptureResult>,
  organisms: readonly Organism[],
): Stage<DiffResult> {
  return {
    id: 'diff',
    group: GROUP,
    title: 'change of every latent, both ends ranked',
    inputs: [sae, capture],
    config: { bootstrap: config.evaluation.bootstrap, organisms: organisms.map((one) => one.spec) },
    cost: 0.2,
    async run(context) {
      const loaded = await loadSae(context, sae)
      const statsOf = async (organism: string): Promise<LatentStats> => {
        const { values, sequence } = await activationsOf(context, capture, organism)
        return LatentStats.collect(
          loaded,
          { values, groups: sequence },
          { perGroup: true, signal: context.signal },
        )
      }
      const before = await statsOf('aligned')
      const bad = organisms.filter((one) => one.spec.family === 'bad')
      const after: LatentStats[] = []
      for (const one of bad) after.push(await statsOf(one.spec.id))
      const options = { bootstrap: config.evaluation.bootstrap, seed: context.seed('diff') }
      const diff = await diffLatents(before, after, options)
      const ranked = (one: ReturnType<typeof diff.top>[number], sign: 1 | -1): RankedLatent => ({
        index: one.index,
        rank: sign * one.rank,
        delta: one.delta,
        low: Number.isNaN(one.low) ? null : one.low,
        high: Number.isNaN(one.high) ? null : one.high,
        qValue: Number.isNaN(one.qValue) ? null : one.qValue,
      })
      const signatures: DiffResult['signatures'] = []
      for (const { spec } of organisms.filter((one) => one.spec.family !== 'start')) {
        const own = await diffLatents(await statsOf(spec.start), await statsOf(spec.id), {
          ...options,
          bootstrap: 1,
        })
        signatures.push({
          organism: spec.id,
          latents: own.top(SIGNATURE).map(({ index, delta }) => ({ index, delta })),
        })
      }
      return {
        prompts: context.result(capture).prompts,
        organisms: bad.map((one) => one.spec.id),
        deltas: Array.from(diff.delta),
        top: diff.top(RANKED).map((one) => ranked(one, 1)),
        bottom: diff.bottom(RANKED).map((one) => ranked(one, -1)),
        signatures,
      }
    },
  }
}

/** Means over the tokens of each prompt: a latent's activation (0 when not among the top k) and its pre-activation. */
export interface LatentReadings {
  activation: Float64Array
  preActivation: Float64Array
}

export async function readLatent(
  sae: Sae,
  { values, sequence }: PromptActivations,
  latent: number,
): Promise<LatentReadings> {
  const codes = await sae.encode(values)
  const activations = Array.from({ length: codes.rows }, (_, row) => {
    const { indices, values: strengths } = codes.row(row)
    const at = indices.indexOf(latent)
    return at < 0 ? 0 : (strengths[at] as number)
  })
  return {
    activation: meanOfPrompts(activations, sequence),
    preActivation: meanOfPrompts(await sae.preActivations(values, [latent]), sequence),
  }
}

function meanOfPrompts(values: ArrayLike<number>, promptOf: Uint32Array): Float64Array {
  const sums = new Float64Array(1 + promptOf.reduce((most, prompt) => Math.max(most, prompt), 0))
  const counts = new Float64Array(sums.length)
  for (let row = 0; row < promptOf.length; row++) {
    const prompt = promptOf[row] as number
    sums[prompt] = (sums[prompt] as number) + (values[row] as number)
    counts[prompt] = (counts[prompt] as number) + 1
  }
  return sums.map((sum, prompt) => sum / (counts[prompt] as number))
}

/** Mean change over the first `count` prompts, with its interval over prompts. */
export function changeOf(
  before: Float64Array,
  after: Float64Array,
  count: number,
  bootstrap: { resamples: number; seed: number },
): Change {
  const differences = Array.from(after.subarray(0, count), (value, i) => value - (before[i] as number))
  const { value, low, high } = bootstrapMean(differences, bootstrap)
  return { value: value as number, low: low as number, high: high as number }
}
