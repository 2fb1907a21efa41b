/** Exact top-k encoding against what libraries do today: see bench/README.md. */
import type { Contender, Times } from './contender.js'
import { calibrationRows, PeakMeter, runProgram, startWorker, withFolder } from './native.js'
import { Rounds, startPeer } from './peers.js'
import { median, significant, type BenchOptions, type EncodeResult, type Peaks } from './results.js'

export const ENCODE_PEERS = ['torchFp32', 'torchBf16', 'faiss', 'numpy'] as const

type Precision = EncodeResult['precision']
type Encoded = Times & { precision: Precision; screenedPerToken: number; rescoredPerToken: number }
type Verdicts = Record<string, { wrongTokens: number; wrongValues: number }>

const bytesOf: Record<Precision, number> = { fp32: 4, bf16: 2, int8: 1 }

function peakOf(peaks: Peaks, precision: Precision): number | null {
  return { fp32: peaks.fp32Gflops, bf16: peaks.bf16Gflops, int8: peaks.int8Gops }[precision]
}

export async function encodeBench(options: BenchOptions = {}): Promise<EncodeResult> {
  const { n = 131_072, d = 1024, k = 64, tokens = 512, threads = 1, rounds = 5 } = options
  const { data = 'sae-like', weights = 'bf16', precision = 'auto', onMessage } = options
  const checkedTokens = Math.min(tokens, options.checkTokens ?? 64)
  const clock = threads === 1 ? 'cpuSeconds' : 'seconds'
  const shape = [n, d, k].map(String)

  return withFolder(options, async (folder) => {
    onMessage?.(`making ${data} data: ${n} latents of ${d} in ${weights}`)
    const rows = String(Math.max(tokens, calibrationRows))
    await runProgram('sae_data', [folder, data, ...shape, rows, weights, 'no-decoder'])
    const check = async (name: string, whose: 'ours' | 'peer') => {
      const said = await runProgram('check_codes', [
        folder,
        ...shape,
        String(checkedTokens),
        `${name}:${whose}`,
      ])
      return (JSON.parse(said) as Verdicts)[name]!
    }
    const peaks = await PeakMeter.start(threads)
    const ours: Contender<{ isa: string; cpu: string }> = await startWorker(
      'sae',
      [folder, String(tokens), precision],
      threads,
    )
    try {
      await ours.ask('open')
      onMessage?.('preparing the weights')
      const prepared = await ours.ask<Times>('prepare')
      let last = await ours.ask<Encoded>('encode watched')
      const memory = await ours.ask<{ peakRssBytes: number; peakAnonymousBytes: number }>('memory')
      await ours.ask('write ours')
      onMessage?.('comparing with float64')
      const { wrongTokens, wrongValues } = await check('ours', 'ours')

      const result = {
        peers: {} as EncodeResult['peers'],
        ratio: {} as EncodeResult['ratio'],
        absent: {} as EncodeResult['absent'],
      }
      const operations = 2 * n * d * tokens
      const times: number[] = []
      const fractions: number[] = []
      const round = async (): Promise<Encoded> => {
        const before = peakOf(await peaks.measure(), last.precision)
        last = await ours.ask<Encoded>('encode')
        times.push(last[clock])
        const after = peakOf(await peaks.measure(), last.precision)
        if (before !== null && after !== null)
          fractions.push(operations / last[clock] / 1e9 / ((before + after) / 2))
        return last
      }
      const peers = options.peers ?? ENCODE_PEERS
      // One at a time: each may hold the weights in fp32.
      for (const name of peers) {
        onMessage?.(`against ${name}`)
        const peer = await startPeer('encode.py', name, [folder, ...shape, String(tokens)], {
          python: options.python,
          threads,
        })
        result.ratio[name] = null
        if (typeof peer === 'string') {
          result.absent[name] = peer
          continue
        }
        try {
          await peer.contender.ask('tune')
          await peer.contender.ask(`write ${name}`)
          const verdict = await check(name, 'peer')
          const compared = new Rounds(clock)
          for (let turn = 0; turn < rounds; turn++)
            compared.add(await round(), await peer.contender.ask<Times>('encode'))
          result.ratio[name] = compared.ratio
          result.peers[name] = compared.peer(peer.version, tokens, verdict.wrongTokens)
        } finally {
          await peer.contender.end()
        }
      }
      while (times.length < rounds) await round()

      const seconds = median(times)
      const gflops = operations / seconds / 1e9
      const peak = peakOf(peaks.peaks, last.precision)
      // A neighbour only ever slows: the fastest round is held against the largest peak.
      const fastest = Math.min(...times)
      const gbytes = (n * d * bytesOf[last.precision]) / seconds / 1e9
      return {
        bench: 'encode',
        data,
        n,
        d,
        k,
        tokens,
        threads,
        isa: ours.hello.isa,
        cpu: ours.hello.cpu,
        weights,
        precision: last.precision,
        clock,
        seconds: significant(seconds),
        tokensPerSecond: significant(tokens / seconds),
        gflops: significant(gflops),
        peaks: peaks.peaks,
        peakFraction: peak === null ? null : significant((gflops * seconds) / fastest / peak, 3),
        pairedPeakFraction: fractions.length === 0 ? null : significant(median(fractions), 3),
        fastestSeconds: significant(fastest),
        bandwidthFraction: significant(gbytes / peaks.peaks.readGBs, 3),
        screenedPerToken: significant(last.screenedPerToken),
        rescoredPerToken: significant(last.rescoredPerToken),
        prepareSeconds: significant(prepared.seconds),
        ...memory,
        checkedTokens,
        wrongTokens,
        wrongValues,
        ...result,
      }
    } finally {
      await Promise.all([ours.end(), peaks.end()])
    }
  })
}
