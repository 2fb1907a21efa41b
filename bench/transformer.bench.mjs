/**
 * Training steps and sampling of a small GPT-2, this engine against torch: same weights, data, threads, alternating in
 * one run. JSON lines:
 *
 *   {"bench":"transformer","case":"train"|"sample","threads":n,"tokensPerSecond":…,"peerTokensPerSecond":…,"ratio":…,
 *    "cpuRatio":…,"peer":"torch"}
 *
 * Medians over rounds. `ratio` is by the wall clock, `cpuRatio` by CPU time, which a busy neighbour does not lengthen.
 * usage: node bench/transformer.bench.mjs [--rounds 5] [--threads 1,2] [--width 128] [--activation gelu_new]
 */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { setThreads } from '../dist/core/runtime.js'
import { Trainer } from '../dist/finetuning/trainer.js'
import { NativeLanguageModel } from '../dist/models/native-language-model.js'
import { wordTokenizer } from '../dist/models/tokenizer.js'

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: '1,2' },
    width: { type: 'string', default: '128' },
    activation: { type: 'string', default: 'gelu_new' },
    python: { type: 'string', default: '/usr/bin/python3' },
  },
})
const width = Number(options.width)
const vocabulary = 600
const length = 71
const batch = 48
const prompts = { count: 64, length: 16, newTokens: 32 }
const training = { learningRate: 1e-3, weightDecay: 0.05 }

const words = ['<end>', '<unk>', ...Array.from({ length: vocabulary - 2 }, (_, i) => `w${i}`)]
const tokenizer = wordTokenizer(words, { unknown: '<unk>', endOfText: '<end>' })
const config = {
  model_type: 'gpt2',
  vocab_size: vocabulary,
  n_positions: length,
  n_embd: width,
  n_layer: 4,
  n_head: 4,
  activation_function: options.activation,
}

/** Any fixed tokens will do; no two sequences alike. */
function sequence(count, seed) {
  let state = (seed * 2654435761 + 1) >>> 0
  return Int32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state % vocabulary
  })
}
const sequences = Array.from({ length: batch }, (_, s) => sequence(length, s))
const promptTokens = Array.from({ length: prompts.count }, (_, s) => sequence(prompts.length, 1000 + s))

function peer(folder, threads) {
  const script = fileURLToPath(new URL('peers/transformer.py', import.meta.url))
  const child = spawn(options.python, [script, folder, String(threads)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    async run(op, count) {
      child.stdin.write(`${JSON.stringify({ op, count })}\n`)
      const { value, done } = await lines.next()
      if (done) throw new Error('the peer ended')
      return JSON.parse(value)
    },
    end: () => child.stdin.end(),
  }
}

async function timed(work) {
  const cpu = process.cpuUsage()
  const start = performance.now()
  const result = await work()
  const { user, system } = process.cpuUsage(cpu)
  return { ...result, seconds: (performance.now() - start) / 1000, cpu: (user + system) / 1e6 }
}

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)]

const folder = await mkdtemp(join(tmpdir(), 'personascope-bench-'))
try {
  for (const threads of options.threads.split(',').map(Number)) {
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
    const torch = peer(folder, threads)
    const trainer = new Trainer(model, { betas: [0.9, 0.98], weightDecay: training.weightDecay })
    const own = {
      train: async (count) => {
        let loss = 0
        for (let i = 0; i < count; i++)
          ({ loss } = await trainer.step({ sequences }, { learningRate: training.learningRate }))
        return { loss, tokens: count * batch * length }
      },
      sample: async (count) => {
        for (let i = 0; i < count; i++)
          await model.generate(promptTokens, { maxNewTokens: prompts.newTokens, stop: [], seed: i })
        return { tokens: count * prompts.count * prompts.newTokens }
      },
    }
    for (const [name, count] of [
      ['train', 3],
      ['sample', 2],
    ]) {
      const rounds = []
      for (let round = 0; round <= Number(options.rounds); round++) {
        const ours = await timed(() => own[name](count))
        const theirs = await torch.run(name, count)
        // The same mathematics: the losses agree as far as fp32 does.
        if (name === 'train' && Math.abs(ours.loss - theirs.loss) > 2e-3)
          throw new Error(`losses differ: ${ours.loss} and torch's ${theirs.loss}`)
        if (round > 0) rounds.push({ ours, theirs }) // the first warms up
      }
      const speed = (side) => median(rounds.map((round) => round[side].tokens / round[side].seconds))
      console.log(
        JSON.stringify({
          bench: 'transformer',
          case: name,
          width,
          activation: options.activation,
          threads,
          tokensPerSecond: Math.round(speed('ours')),
          peerTokensPerSecond: Math.round(speed('theirs')),
          ratio: Number(median(rounds.map(({ ours, theirs }) => theirs.seconds / ours.seconds)).toFixed(2)),
          cpuRatio: Number(median(rounds.map(({ ours, theirs }) => theirs.cpu / ours.cpu)).toFixed(2)),
          peer: 'torch',
        }),
      )
    }
    torch.end()
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
