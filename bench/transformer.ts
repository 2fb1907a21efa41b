/**
 * Training steps and sampling of a small GPT-2, this engine against torch: same weights, data, threads, alternating in
 * one run. Medians over rounds. `ratio` is by the wall clock, `cpuRatio` by CPU time, which a busy neighbour does not
 * lengthen.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { NativeLanguageModel, Trainer, setThreads, wordTokenizer, type ModelConfig } from 'personascope'
import { Contender, type Times } from './contender.js'
import { root, withFolder } from './native.js'
import { median, significant, type BenchOptions } from './results.js'

export interface TransformerResult {
  bench: 'transformer'
  case: 'train' | 'sample'
  width: number
  threads: number
  tokensPerSecond: number
  peerTokensPerSecond: number
  ratio: number
  cpuRatio: number
  peer: 'torch'
}

type Work = Times & { tokens: number; loss?: number }

const vocabulary = 600
const length = 71
const batch = 48
const prompts = { count: 64, length: 16, newTokens: 32 }
const training = { learningRate: 1e-3, weightDecay: 0.05 }

/** Any fixed tokens will do; no two sequences alike. */
function sequence(count: number, seed: number): Int32Array {
  let state = (seed * 2654435761 + 1) >>> 0
  return Int32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state % vocabulary
  })
}

async function timed(work: () => Promise<{ tokens: number; loss?: number }>): Promise<Work> {
  const cpu = process.cpuUsage()
  const start = performance.now()
  const result = await work()
  const { user, system } = process.cpuUsage(cpu)
  return { ...result, seconds: (performance.now() - start) / 1000, cpuSeconds: (user + system) / 1e6 }
}

/** `d` is the model's width (default 128); threads as given, else one and then two. */
export async function* transformerBench(options: BenchOptions = {}): AsyncGenerator<TransformerResult> {
  const width = options.d ?? 128
  const words = ['<end>', '<unk>', ...Array.from({ length: vocabulary - 2 }, (_, i) => `w${i}`)]
  const tokenizer = wordTokenizer(words, { unknown: '<unk>', endOfText: '<end>' })
  const config: ModelConfig = {
    model_type: 'gpt2',
    vocab_size: vocabulary,
    n_positions: length,
    n_embd: width,
    n_layer: 4,
    n_head: 4,
    activation_function: 'gelu_new',
  }
  const sequences = Array.from({ length: batch }, (_, s) => sequence(length, s))
  const promptTokens = Array.from({ length: prompts.count }, (_, s) => sequence(prompts.length, 1000 + s))
  for (const threads of options.threads === undefined ? [1, 2] : [options.threads])
    yield* await withFolder(options, async (folder) => {
      setThreads(threads)
      const model = NativeLanguageModel.create(config, tokenizer, { seed: 1 })
      await model.save(folder)
      await writeFile(
        join(folder, 'bench.json'),
        JSON.stringify({
          ...training,
          newTokens: prompts.newTokens,
          tokens: sequences.map((tokens) => [...tokens]),
          prompts: promptTokens.map((tokens) => [...tokens]),
        }),
      )
      const torch = await Contender.start(options.python ?? '/usr/bin/python3', [
        join(root, 'bench', 'peers', 'transformer.py'),
        folder,
        String(threads),
      ])
      const trainer = new Trainer(model, { betas: [0.9, 0.98], weightDecay: training.weightDecay })
      const own = {
        train: async (count: number) => {
          let loss = 0
          for (let i = 0; i < count; i++)
            ({ loss } = await trainer.step({ sequences }, { learningRate: training.learningRate }))
          return { loss, tokens: count * batch * length }
        },
        sample: async (count: number) => {
          for (let i = 0; i < count; i++)
            await model.generate(promptTokens, { maxNewTokens: prompts.newTokens, stop: [], seed: i })
          return { tokens: count * prompts.count * prompts.newTokens }
        },
      }
      const results: TransformerResult[] = []
      for (const [name, count] of [
        ['train', 3],
        ['sample', 2],
      ] as const) {
        const rounds: { ours: Work; theirs: Work }[] = []
        for (let round = 0; round <= (options.rounds ?? 5); round++) {
          const ours = await timed(() => own[name](count))
          const theirs = await torch.ask<Work>(`${name} ${count}`)
          // The same mathematics: the losses agree as far as fp32 does.
          if (name === 'train' && !(Math.abs(ours.loss! - theirs.loss!) <= 2e-3))
            throw new Error(`bench: losses differ: ${ours.loss} and torch's ${theirs.loss}`)
          if (round > 0) rounds.push({ ours, theirs }) // the first warms up
        }
        const speed = (side: 'ours' | 'theirs') =>
          median(rounds.map((round) => round[side].tokens / round[side].seconds))
        results.push({
          bench: 'transformer',
          case: name,
          width,
          threads,
          tokensPerSecond: Math.round(speed('ours')),
          peerTokensPerSecond: Math.round(speed('theirs')),
          ratio: significant(median(rounds.map(({ ours, theirs }) => theirs.seconds / ours.seconds)), 3),
          cpuRatio: significant(
            median(rounds.map(({ ours, theirs }) => theirs.cpuSeconds / ours.cpuSeconds)),
            3,
          ),
          peer: 'torch',
        })
      }
      await torch.end()
      return results
    })
}
