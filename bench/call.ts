/**
 * What a call from JavaScript into the core and back costs beyond its work: an SAE of one latent encodes and decodes
 * one token, a synchronous call reads a vector. Waiting is in turn, as a caller does who needs the answer.
 */
import { Sae, runtimeInfo } from 'personascope'
import { median, significant, type BenchOptions, type CallResult } from './results.js'

export async function callBench(options: BenchOptions = {}): Promise<CallResult[]> {
  const { rounds = 15 } = options
  const one = Float32Array.of(1)
  const weights = { dModel: 1, latents: 1, k: 1, wEnc: one, wDec: one, bEnc: one, bDec: Float32Array.of(0) }
  const sae = Sae.fromWeights(weights, { precision: 'fp32' })
  const codes = await sae.encode(one)
  const cases: Record<string, () => unknown> = {
    'encode one token': () => sae.encode(one),
    'decode one token': () => sae.decode(codes),
    'decoder vector (synchronous)': () => sae.decoderVector(0),
    'runtime info (synchronous)': () => runtimeInfo(),
  }
  const results: CallResult[] = []
  for (const [name, call] of Object.entries(cases)) {
    const seconds: number[] = []
    for (let round = 0; round <= rounds; round++) {
      const calls = 500
      const start = performance.now()
      for (let i = 0; i < calls; i++) {
        const answer = call()
        if (answer instanceof Promise) await answer
      }
      if (round > 0) seconds.push((performance.now() - start) / 1000 / calls) // the first warms up
    }
    const each = median(seconds)
    results.push({
      bench: 'call',
      case: name,
      overheadMicroseconds: significant(each * 1e6, 3),
      callsPerSecond: Math.round(1 / each),
    })
  }
  return results
}
