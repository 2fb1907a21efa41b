/**
 * What a call from JavaScript into the core and back costs beyond its work, which is next to none here: an SAE of one
 * latent encodes and decodes one token; one of 4096 latents, too large to run on the event loop's thread, decodes one
 * code on another thread; a synchronous call reads a vector. Each answer is waited for before the next call.
 */
import { Sae, runtimeInfo } from 'personascope'
import { median, significant, type BenchOptions, type CallResult } from './results.js'

export async function callBench(options: BenchOptions = {}): Promise<CallResult[]> {
  const { rounds = 15 } = options
  const one = Float32Array.of(1)
  const weights = { dModel: 1, latents: 1, k: 1, wEnc: one, wDec: one, bEnc: one, bDec: Float32Array.of(0) }
  const sae = Sae.fromWeights(weights, { precision: 'fp32' })
  const codes = await sae.encode(one)
  const rows = new Float32Array(4096 * 64)
  const large = Sae.fromWeights({
    dModel: 64,
    latents: 4096,
    k: 1,
    wEnc: rows,
    wDec: rows,
    bEnc: new Float32Array(4096).fill(1),
    bDec: new Float32Array(64),
  })
  const largeCodes = await large.encode(new Float32Array(64))
  const cases: Record<string, () => unknown> = {
    'encode one token': () => sae.encode(one),
    'decode one token': () => sae.decode(codes),
    'decode one token, on another thread': () => large.decode(largeCodes),
    'decoder vector (synchronous)': () => sae.decoderVector(0),
    'runtime info (synchronous)': () => runtimeInfo(),
  }
  const results: CallResult[] = []
  for (const [name, call] of Object.entries(cases)) {
    const seconds: number[] = []
    for (let i = 0; i < 200 * (rounds + 1); i++) {
      const start = performance.now()
      const answer = call()
      if (answer instanceof Promise) await answer
      if (i >= 200) seconds.push((performance.now() - start) / 1000) // the first ones warm up
    }
    // Of single calls: a call during which another process ran says nothing.
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
