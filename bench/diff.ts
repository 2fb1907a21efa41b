/** Comparing two models: the whole command over stores on disk, and intervals over all latents. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Times } from './contender.js'
import { root, runProgram, startWorker, withFolder } from './native.js'
import { median, significant, type BenchOptions, type BootstrapResult, type DiffResult } from './results.js'
import { memory } from './workers/answer.js'

interface StreamedStep {
  step: string
  done: number
  total: number
  perSecond: number
  /** When it was told, in ms. */
  at: number
}

interface Run {
  /** Without the time that it stood still. */
  seconds: number
  stoodMilliseconds: number
  /** The last of each step. */
  steps: Map<string, StreamedStep>
  peakAnonymousBytes: number
  peakRssBytes: number
}

/**
 * Runs `personascope diff`. At every progress `kill` is asked whether to end it there, and `rest` what to do while it
 * stands still, if anything.
 */
async function runDiff(
  args: readonly string[],
  {
    kill,
    rest,
  }: {
    kill?: (step: StreamedStep) => boolean
    rest?: (step: StreamedStep) => (() => Promise<void>) | undefined
  },
): Promise<Run> {
  const main = join(root, 'dist', 'cli', 'main.js')
  const begun = performance.now()
  const child = spawn(process.execPath, [main, 'diff', ...args, '--json'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const run: Run = {
    seconds: 0,
    stoodMilliseconds: 0,
    steps: new Map(),
    peakAnonymousBytes: 0,
    peakRssBytes: 0,
  }
  const timer = setInterval(() => {
    try {
      const field = memory(child.pid!)
      run.peakAnonymousBytes = Math.max(run.peakAnonymousBytes, field('RssAnon'))
      run.peakRssBytes = Math.max(run.peakRssBytes, field('VmHWM'))
    } catch {
      // It has just ended, or not begun.
    }
  }, 20)
  const closed = new Promise<number | null>((resolve) => child.once('close', resolve))
  let killed = false
  let error = ''
  for await (const line of createInterface({ input: child.stderr })) {
    const said = { at: performance.now(), ...JSON.parse(line) } as StreamedStep & {
      event: string
      message?: string
    }
    if (said.event === 'error') error = said.message ?? line
    if (said.event !== 'progress') continue
    run.steps.set(said.step, said)
    const meanwhile = rest?.(said)
    if (meanwhile !== undefined) {
      const stopped = performance.now()
      child.kill('SIGSTOP')
      await meanwhile().finally(() => child.kill('SIGCONT'))
      run.stoodMilliseconds += performance.now() - stopped
    }
    if (killed || kill?.(said) !== true) continue
    killed = true
    child.kill('SIGKILL')
  }
  const status = await closed
  clearInterval(timer)
  if (!killed && status !== 0) throw new Error(`bench: personascope diff ended with ${status}: ${error}`)
  run.seconds = (performance.now() - begun - run.stoodMilliseconds) / 1000
  return run
}

export async function diffBench(options: BenchOptions = {}): Promise<DiffResult> {
  const { n = 131_072, d = 1024, k = 64, tokens = 16_384, threads = 2, rounds = 3 } = options
  const { data = 'sae-like', weights = 'bf16', precision = 'auto', onMessage } = options
  return withFolder(options, async (folder) => {
    // More are made of these: it is the reading of many that counts, not that they all differ.
    const known = Math.min(tokens, 4096)
    onMessage?.(`making ${data} data: ${n} latents of ${d} in ${weights}, two stores of ${tokens} tokens`)
    const shape = [n, d, k, known].map(String)
    await runProgram('sae_data', [folder, data, ...shape, weights, 'no-decoder'])
    const writer = await startWorker<{ isa: string; cpu: string }>('diff', [folder], threads)
    const { bytes: storeBytes } = await writer.ask<{ bytes: number }>(`stores ${d} ${tokens}`)
    await writer.end()

    const models = ['--base', join(folder, 'base'), '--tuned', join(folder, 'tuned')]
    const args = ['--sae', join(folder, 'sae'), ...models, '--threads', String(threads), '--top', '0']
    args.push('--precision', precision)
    const table = (name: string): string => join(folder, `${name}.parquet`)
    const bare = await startWorker('sae', [folder, String(known), precision], threads)
    const runs: Run[] = []
    const shares: number[] = []
    const encodes: number[] = []
    const streams: number[] = []
    try {
      await bare.ask('open')
      const prepared = await bare.ask<Times & { bytes: number }>('prepare')
      await bare.ask('encode')
      for (let round = 0; round < rounds; round++) {
        onMessage?.(`round ${round + 1}`)
        // The machine's speed changes within minutes: the two take turns, the diff stands still meanwhile.
        const bareSum = { tokens: 0, seconds: 0 }
        const encodeSome = async (): Promise<void> => {
          const until = { tokens: bareSum.tokens + tokens / 4, seconds: bareSum.seconds + 6 }
          while (bareSum.seconds < until.seconds && bareSum.tokens < until.tokens) {
            bareSum.seconds += (await bare.ask<Times>('encode')).seconds
            bareSum.tokens += known
          }
        }
        let begun: number | undefined
        const due = ['base', 'tuned'].flatMap((step) => [1, 2, 3].map((quarter) => ({ step, quarter })))
        const rest = ({ step, done, total, perSecond, at }: StreamedStep) => {
          if (perSecond > 0) begun ??= at - (1000 * done) / perSecond
          const [next] = due
          if (next?.step !== step || done < (total * next.quarter) / 4) return undefined
          due.shift()
          return encodeSome
        }
        await encodeSome()
        const run = await runDiff([...args, '-o', table('whole')], { rest })
        await encodeSome()
        const encode = bareSum.tokens / bareSum.seconds
        // From the first token of one model to the last of the other, with all that lies between.
        const seconds = (run.steps.get('tuned')!.at - begun! - run.stoodMilliseconds) / 1000
        const stream = (2 * tokens) / seconds
        runs.push(run)
        encodes.push(encode)
        streams.push(stream)
        shares.push(stream / encode)
      }
      onMessage?.('killed half-way, and resumed')
      const again = [...args, '-o', table('resumed')]
      await runDiff(again, { kill: ({ step, done, total }) => step === 'tuned' && done >= total / 2 })
      await runDiff([...again, '--resume'], {})
      const peak = Math.max(...runs.map((run) => run.peakAnonymousBytes))
      const seconds = median(runs.map((run) => run.seconds))
      return {
        bench: 'diff',
        data,
        n,
        d,
        k,
        tokens,
        threads,
        weights,
        isa: writer.hello.isa,
        cpu: writer.hello.cpu,
        storeBytes,
        seconds: significant(seconds),
        tokensPerSecond: significant((2 * tokens) / seconds),
        streamTokensPerSecond: significant(median(streams)),
        encodeTokensPerSecond: significant(median(encodes)),
        shareOfEncode: significant(median(shares), 3),
        sharesOfEncode: shares.map((share) => significant(share, 3)),
        prepareSeconds: significant(prepared.seconds),
        preparedBytes: prepared.bytes,
        peakBeyondPreparedBytes: peak - prepared.bytes,
        peakRssBytes: Math.max(...runs.map((run) => run.peakRssBytes)),
        resumedEqual: readFileSync(table('whole')).equals(readFileSync(table('resumed'))),
      }
    } finally {
      await bare.end()
    }
  })
}

/** As many as the evaluation prompts of Wang et al. 2025 (arXiv 2506.19823). */
const prompts = 44
const resamples = 1000

export async function bootstrapBench(options: BenchOptions = {}): Promise<BootstrapResult> {
  const { n = 2 ** 21, threads = 2, onMessage } = options
  return withFolder(options, async (folder) => {
    let statisticsBytes = 0
    for (const [seed, model] of ['base', 'tuned'].entries()) {
      onMessage?.(`statistics of ${n} latents, each active in ${prompts} prompts: ${model}`)
      const maker = await startWorker('diff', [folder], threads)
      const { bytes } = await maker.ask<{ bytes: number }>(`make ${model} ${n} ${prompts} ${seed}`)
      statisticsBytes += bytes
      await maker.end()
    }
    onMessage?.(`${resamples} resamples`)
    const worker = await startWorker<{ isa: string; cpu: string }>('diff', [folder], threads)
    try {
      const found = await worker.ask<
        Times & { loadSeconds: number; alive: number; peakRssBytes: number; peakAnonymousBytes: number }
      >(`diff ${resamples}`)
      if (found.alive !== n) throw new Error(`bench: ${found.alive} of ${n} latents are alive`)
      return {
        bench: 'bootstrap',
        n,
        prompts,
        resamples,
        threads,
        isa: worker.hello.isa,
        cpu: worker.hello.cpu,
        statisticsBytes,
        loadSeconds: significant(found.loadSeconds),
        seconds: significant(found.seconds),
        cpuSeconds: significant(found.cpuSeconds),
        peakRssBytes: found.peakRssBytes,
        peakAnonymousBytes: found.peakAnonymousBytes,
      }
    } finally {
      await worker.end()
    }
  })
}
