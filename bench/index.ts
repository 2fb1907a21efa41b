/** The benches as functions: `import { runBench } from 'personascope/bench'`. */
import { bandwidthBench } from './bandwidth.js'
import { callBench } from './call.js'
import { bootstrapBench, diffBench } from './diff.js'
import { encodeBench } from './encode.js'
import { loadBench } from './load.js'
import type {
  BandwidthResult,
  BenchOptions,
  BenchResult,
  BootstrapResult,
  CallResult,
  DiffResult,
  EncodeResult,
  LoadResult,
} from './results.js'

export type {
  BandwidthResult,
  BenchOptions,
  BenchResult,
  BootstrapResult,
  CallResult,
  DataKind,
  DiffResult,
  EncodeResult,
  LoadResult,
  PeerResult,
  Peaks,
} from './results.js'

/** What each bench gives. */
export interface BenchResults {
  encode: EncodeResult
  decode: BandwidthResult
  stats: BandwidthResult
  steer: BandwidthResult
  load: LoadResult
  diff: DiffResult
  bootstrap: BootstrapResult
  call: CallResult
}

export type BenchName = keyof BenchResults

const benches: Record<BenchName, (options: BenchOptions) => Promise<BenchResult | BenchResult[]>> = {
  encode: encodeBench,
  decode: (options) => bandwidthBench('decode', options),
  stats: (options) => bandwidthBench('stats', options),
  steer: (options) => bandwidthBench('steer', options),
  load: loadBench,
  diff: diffBench,
  bootstrap: bootstrapBench,
  call: callBench,
}

export const benchNames = Object.keys(benches) as BenchName[]

/**
 * Runs a bench on this machine and gives its results. Builds bench/native where that was not done: that needs CMake
 * and a C++20 compiler.
 */
export async function runBench<Name extends BenchName>(
  name: Name,
  options: BenchOptions = {},
): Promise<BenchResults[Name][]> {
  const made = await benches[name](options)
  return (Array.isArray(made) ? made : [made]) as BenchResults[Name][]
}

/** Sizes worth telling: `{ n, d, tokens, … }` by name. */
export const presets: Readonly<Record<string, BenchOptions>> = {
  small: { n: 16_384, d: 512, tokens: 256 },
  '131k': { n: 131_072, d: 1024, tokens: 512 },
  '524k': { n: 524_288, d: 1024, tokens: 512 },
  '2m': { n: 2_097_152, d: 1024, tokens: 512, checkTokens: 32, rounds: 3 },
  /** One token of sampling. */
  '2m-one': { n: 2_097_152, d: 1024, tokens: 1, checkTokens: 1, rounds: 9 },
  /** A bf16 encoder of 17 GB, more than most machines' memory leaves; without peers, which need 34 GB. */
  '2m-wide': { n: 2_097_152, d: 4096, tokens: 512, checkTokens: 8, rounds: 3, peers: [] },
}
