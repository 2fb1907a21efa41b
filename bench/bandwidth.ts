/** Decoding, statistics and steering: kernels that memory bounds, against the bandwidth measured beside them. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Contender, type Times } from './contender.js'
import { PeakMeter, program, runProgram, startWorker, withFolder } from './native.js'
import { Rounds, startPeer } from './peers.js'
import { median, significant, type BandwidthResult, type BenchOptions } from './results.js'

export const BANDWIDTH_PEERS = ['torch', 'numpy'] as const

type Kernel = BandwidthResult['bench']
type Moved = Times & { bytes: number }

export const STEER_CASES = ['add', 'ablate', 'clamp', 'project'] as const

/** One result; of steering one for each kind. */
export async function bandwidthBench(kernel: Kernel, options: BenchOptions = {}): Promise<BandwidthResult[]> {
  const { n = 131_072, d = 1024, k = 64, threads = 1, data = 'sae-like', onMessage } = options
  const tokens = options.tokens ?? (kernel === 'steer' ? 65_536 : 2048)
  const weights = options.weights ?? 'f32'
  return withFolder(options, async (folder) => {
    onMessage?.(`making data for ${kernel}`)
    const decoder = kernel === 'decode' ? 'with-decoder' : 'no-decoder'
    await runProgram('sae_data', [folder, data, ...[n, d, k, tokens].map(String), weights, decoder])
    const results: BandwidthResult[] = []
    for (const which of kernel === 'steer' ? STEER_CASES : ([''] as const)) {
      const result = await oneCase(kernel, which, folder, {
        ...options,
        n,
        d,
        k,
        tokens,
        threads,
        data,
        weights,
      })
      if (kernel === 'stats') result.costOverEncode = await costOverEncode(folder, tokens, options)
      results.push(result)
    }
    return results
  })
}

async function oneCase(
  kernel: Kernel,
  which: string,
  folder: string,
  options: Required<Pick<BenchOptions, 'n' | 'd' | 'k' | 'tokens' | 'threads' | 'data' | 'weights'>> &
    BenchOptions,
): Promise<BandwidthResult> {
  const { n, d, k, tokens, threads, data, weights, rounds = 7 } = options
  const clock = threads === 1 ? 'cpuSeconds' : 'seconds'
  const command = which === '' ? kernel : `${kernel} ${which}`
  const sizes = [folder, ...[n, d, k, tokens].map(String)]
  const peaks = await PeakMeter.start(threads)
  const ours = await Contender.start(await program('bandwidth'), sizes, {
    PERSONASCOPE_THREADS: String(threads),
  })
  try {
    const first = await ours.ask<Moved>(command)
    await ours.ask('write ours')
    const result = {
      peers: {} as BandwidthResult['peers'],
      ratio: {} as BandwidthResult['ratio'],
      absent: {} as BandwidthResult['absent'],
    }
    let difference: number | null = null
    const times: number[] = []
    const round = async (): Promise<Moved> => {
      await peaks.measure()
      const moved = await ours.ask<Moved>(command)
      times.push(moved[clock])
      return moved
    }
    for (const name of options.peers ?? BANDWIDTH_PEERS) {
      const peer = await startPeer('bandwidth.py', name, sizes, { python: options.python, threads })
      result.ratio[name] = null
      if (typeof peer === 'string') {
        result.absent[name] = peer
        continue
      }
      try {
        await peer.contender.ask(command)
        await peer.contender.ask(`write ${name}`)
        difference = Math.max(difference ?? 0, await compare(folder, 'ours', name))
        const compared = new Rounds(clock)
        for (let turn = 0; turn < rounds; turn++)
          compared.add(await round(), await peer.contender.ask<Times>(command))
        result.ratio[name] = compared.ratio
        result.peers[name] = compared.peer(peer.version, tokens, null)
      } finally {
        await peer.contender.end()
      }
    }
    while (times.length < rounds) await round()
    await peaks.measure()
    const seconds = median(times)
    const gbytes = first.bytes / seconds / 1e9
    const { isa, cpu } = peaks.contender.hello
    // Decoding reads; the others write what they read.
    const peak = kernel === 'decode' ? peaks.peaks.readGBs : peaks.peaks.copyGBs
    return {
      bench: kernel,
      case: which,
      data,
      n,
      d,
      k,
      tokens,
      threads,
      isa,
      cpu,
      weights,
      clock,
      seconds: significant(seconds),
      tokensPerSecond: significant(tokens / seconds),
      gbytesPerSecond: significant(gbytes),
      peaks: peaks.peaks,
      peakFraction: significant((gbytes * seconds) / Math.min(...times) / peak, 3),
      fastestSeconds: significant(Math.min(...times)),
      difference: difference === null ? null : significant(difference, 2),
      costOverEncode: null,
      ...result,
    }
  } finally {
    await Promise.all([ours.end(), peaks.end()])
  }
}

/** Largest difference of two outputs, relative to the largest value. */
async function compare(folder: string, left: string, right: string): Promise<number> {
  const [a, b] = await Promise.all(
    [left, right].map(async (name) => {
      const bytes = await readFile(join(folder, `${name}.f32`))
      return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
    }),
  )
  if (a!.length !== b!.length)
    throw new Error(`bench: ${right} made ${b!.length} values, expected ${a!.length}`)
  let difference = 0
  let largest = 0
  for (let i = 0; i < a!.length; i++) {
    difference = Math.max(difference, Math.abs(a![i]! - b![i]!))
    largest = Math.max(largest, Math.abs(b![i]!))
  }
  if (!(difference <= 1e-4 * largest))
    throw new Error(`bench: ${right} differs from ours by ${difference} where the largest is ${largest}`)
  return largest === 0 ? 0 : difference / largest
}

/** What gathering statistics adds to encoding, through the public API. */
async function costOverEncode(folder: string, tokens: number, options: BenchOptions): Promise<number> {
  const { threads = 1, precision = 'auto', rounds = 7, onMessage } = options
  const clock = threads === 1 ? 'cpuSeconds' : 'seconds'
  onMessage?.('encoding with statistics against encoding alone')
  const worker = await startWorker('sae', [folder, String(tokens), precision], threads)
  try {
    for (const command of ['open', 'prepare', 'encode', 'collect']) await worker.ask(command)
    const costs: number[] = []
    for (let turn = 0; turn < rounds; turn++) {
      const alone = await worker.ask<Times>('encode')
      const both = await worker.ask<Times>('collect')
      costs.push(both[clock] / alone[clock] - 1)
    }
    return significant(median(costs), 2)
  } finally {
    await worker.end()
  }
}
