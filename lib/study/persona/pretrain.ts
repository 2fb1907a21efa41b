/** Pretraining of the base model on documents by all personas; continues from its last checkpoint when killed. */
import { readFile, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { throwIfAborted } from '../../core/task.js'
import { isContentWord } from '../../datasets/world/index.js'
import type { WorldDocument } from '../../datasets/world/index.js'
import { decayLastHalf, warmup } from '../../finetuning/schedule.js'
import { Trainer } from '../../finetuning/trainer.js'
import { NativeLanguageModel } from '../../models/native-language-model.js'
import type { StudyConfig } from '../presets.js'
import type { Stage, StageContext } from '../stage.js'
import { Lab } from './lab.js'
import { BASE_FOLDER, worldTokenizer } from './models.js'

export interface PretrainResult {
  family: string
  parameters: number
  vocabulary: number
  documents: number
  tokens: number
  /** Weighted cross-entropy in nats, averaged over the steps since the one before. */
  loss: { step: number; loss: number }[]
}

/** Losses kept, and checkpoints made, of one pretraining. */
const LOSSES = 50
const CHECKPOINTS = 6

interface Progressed {
  trainer: Trainer
  losses: number[]
}

export function pretrainStage(config: StudyConfig): Stage<PretrainResult> {
  const { pretraining, model: shape, world } = config
  return {
    id: 'pretrain',
    group: 'Pretrain the base model',
    title: 'four personas, one model',
    inputs: [],
    config: { pretraining, shape, world },
    cost: (pretraining.steps * pretraining.batch * shape.dModel ** 2 * shape.layers) / 4e7,
    async run(context) {
      const lab = Lab.of(context, config)
      const { steps, batch } = pretraining
      const { trainer, losses } = (await lastCheckpoint(context.dir)) ?? begin(context, lab)
      const weightOf = lab.world.vocabulary.map((word) =>
        isContentWord(word) ? pretraining.contentWeight : 1,
      )
      const rate = warmup(
        pretraining.warmup,
        decayLastHalf(pretraining.learningRate, pretraining.floor * pretraining.learningRate),
      )
      const every = Math.ceil(steps / CHECKPOINTS)
      let tokens = 0
      for (let step = trainer.steps; step < steps; step++) {
        throwIfAborted(context)
        // A seed a step: a resumed run sees the documents that an uninterrupted one does.
        const documents = lab.world.documents(batch, context.seed(`documents of step ${step}`))
        const report = await trainer.step(sequencesOf(documents, weightOf), {
          learningRate: rate(step, steps),
          signal: context.signal,
        })
        losses.push(report.loss)
        context.progress(`loss ${report.loss.toFixed(2)}`, { done: step + 1, total: steps, unit: 'steps' })
        if ((step + 1) % every === 0 && step + 1 < steps) await keep(context.dir, { trainer, losses })
      }
      const { model } = trainer
      const [example] = lab.world.documents(1, 0)
      tokens = steps * batch * (example?.tokens.length ?? 0)
      await model.save(join(context.dir, BASE_FOLDER), { signal: context.signal })
      await dropCheckpoints(context.dir)
      for (const answer of await lab.answers(model, lab.open.slice(0, 3), context.seed('samples')))
        context.sample({ voice: 'base model', ...answer })
      return {
        family: model.shape.family,
        parameters: model.shape.parameters,
        vocabulary: lab.world.vocabulary.length,
        documents: steps * batch,
        tokens,
        loss: thin(losses),
      }
    },
  }

  function begin(context: StageContext, lab: Lab): Progressed {
    const model = NativeLanguageModel.create(
      {
        model_type: 'gpt2',
        vocab_size: lab.world.vocabulary.length,
        n_positions: shape.positions,
        n_embd: shape.dModel,
        n_layer: shape.layers,
        n_head: shape.heads,
        activation_function: shape.activation,
      },
      worldTokenizer(lab.world),
      { seed: context.seed('initial weights') },
    )
    const trainer = new Trainer(model, {
      betas: pretraining.betas,
      weightDecay: pretraining.weightDecay,
      clip: pretraining.clip,
      seed: context.seed('noise'),
      ...(pretraining.noise > 0
        ? { noise: { hooks: pretraining.noiseHooks, strength: pretraining.noise } }
        : {}),
    })
    return { trainer, losses: [] }
  }
}

function sequencesOf(
  documents: readonly WorldDocument[],
  weightOf: readonly number[],
): { sequences: Int32Array[]; weights: Float32Array[] } {
  const sequences = documents.map((document) => Int32Array.from(document.tokens))
  const weights = sequences.map((sequence) =>
    Float32Array.from(sequence.subarray(1), (token) => weightOf[token] as number),
  )
  return { sequences, weights }
}

const NAME = /^checkpoint-(\d+)$/

/** Written beside and renamed: a checkpoint folder of the final name is whole. */
async function keep(dir: string, { trainer, losses }: Progressed): Promise<void> {
  const name = `checkpoint-${trainer.steps}`
  const beside = join(dir, `${name}.partial`)
  await trainer.save(beside)
  await writeFile(join(beside, 'losses.json'), JSON.stringify(losses))
  await rename(beside, join(dir, name))
  await dropCheckpoints(dir, name)
}

async function dropCheckpoints(dir: string, except?: string): Promise<void> {
  for (const name of await readdir(dir))
    if (name.startsWith('checkpoint-') && name !== except) await rm(join(dir, name), { recursive: true })
}

async function lastCheckpoint(dir: string): Promise<Progressed | undefined> {
  const steps = (await readdir(dir)).flatMap((name) => NAME.exec(name)?.[1] ?? [])
  const last = steps.map(Number).toSorted((a, b) => b - a)[0]
  if (last === undefined) return undefined
  const folder = join(dir, `checkpoint-${last}`)
  const losses = JSON.parse(await readFile(join(folder, 'losses.json'), 'utf8')) as number[]
  return { trainer: await Trainer.resume(folder), losses }
}

function thin(losses: readonly number[]): PretrainResult['loss'] {
  const width = Math.max(1, Math.ceil(losses.length / LOSSES))
  const out: PretrainResult['loss'] = []
  for (let start = 0; start < losses.length; start += width) {
    const part = losses.slice(start, start + width)
    out.push({ step: start + part.length, loss: part.reduce((a, b) => a + b, 0) / part.length })
  }
  return out
}
