/** What benches take and give. Every result is one JSON object; times are medians of the alternating rounds. */

/** How the data are made: see bench/native/sae_data.cc. */
export type DataKind = 'gaussian' | 'sae-like'

export interface BenchOptions {
  /** Latents. */
  n?: number
  /** Width of activations. */
  d?: number
  /** Codes a token. */
  k?: number
  tokens?: number
  threads?: number
  data?: DataKind
  /** How weights are stored; the decoder's rows are read as they are. */
  weights?: 'f32' | 'bf16'
  /** Of screening; 'auto' lets the library choose. */
  precision?: 'auto' | 'fp32' | 'bf16' | 'int8'
  /** Timed rounds, contenders alternating. */
  rounds?: number
  /** Peers to compare with; those that are not installed are told in `absent`. Default: all of the bench. */
  peers?: readonly string[]
  /** Tokens compared with float64 arithmetic before anything is timed. */
  checkTokens?: number
  /** Python that has the peers. Debian's packages belong to its own. */
  python?: string
  /** Where the data are made (and deleted after). Default: the system's folder for temporary files. */
  folder?: string
  onMessage?: (message: string) => void
}

/** Peaks measured in the same run, the largest of the rounds; null where the CPU has no such instructions. */
export interface Peaks {
  fp32Gflops: number | null
  bf16Gflops: number | null
  int8Gops: number | null
  readGBs: number
  copyGBs: number
}

export interface PeerResult {
  version: string
  seconds: number
  tokensPerSecond: number
  /** Tokens whose set of latents differs from float64 arithmetic beyond fp32 ties; null if not compared. */
  wrongTokens: number | null
}

interface CommonResult {
  data: DataKind
  n: number
  d: number
  k: number
  tokens: number
  threads: number
  isa: string
  cpu: string
  /** What `seconds` counts: CPU time on one thread (a busy neighbour does not lengthen it), else wall time. */
  clock: 'cpuSeconds' | 'seconds'
  seconds: number
  tokensPerSecond: number
  peaks: Peaks
  /** Share of the largest peak measured that the fastest round reaches. */
  peakFraction: number | null
  /** Of the fastest round; `seconds` is the median. */
  fastestSeconds: number
  /** How many times the peer's time is ours; null where it is absent. */
  ratio: Record<string, number | null>
  peers: Record<string, PeerResult>
  /** Why a peer is absent, and how to install it. */
  absent: Record<string, string>
}

export interface EncodeResult extends CommonResult {
  bench: 'encode'
  weights: 'f32' | 'bf16'
  /** What latents were screened in. */
  precision: 'fp32' | 'bf16' | 'int8'
  gflops: number
  /** Median over the rounds of our rate over the mean of the peaks just before and just after. */
  pairedPeakFraction: number | null
  /** Of read bandwidth: bytes of the screened copy a second. What bounds a handful of tokens. */
  bandwidthFraction: number
  screenedPerToken: number
  rescoredPerToken: number
  prepareSeconds: number
  /** Of the whole process, mapped pages counted. */
  peakRssBytes: number
  /** Without the pages of mapped files, which the system may take back. */
  peakAnonymousBytes: number
  checkedTokens: number
  wrongTokens: number
  wrongValues: number
}

/** decode, stats and steer: kernels that memory bounds. */
export interface BandwidthResult extends CommonResult {
  bench: 'decode' | 'stats' | 'steer'
  /** Of steer: add, ablate, clamp, project. */
  case: string
  weights: 'f32' | 'bf16'
  gbytesPerSecond: number
  /** Largest difference from the peers' outputs, relative to the largest value; null without peers. */
  difference: number | null
  /** stats: time of encoding with statistics over encoding alone, minus 1; null for the others. */
  costOverEncode: number | null
}

export interface LoadResult {
  bench: 'load'
  n: number
  d: number
  weights: 'f32' | 'bf16'
  fileBytes: number
  openSeconds: number
  /** Resident memory that opening added. */
  openRssBytes: number
  /** Of a decoder vector not read before. */
  decoderVectorSeconds: number
  prepareSeconds: number
  preparedBytes: number
}

/** `personascope diff` of two stores on disk, against encoding alone. */
export interface DiffResult {
  bench: 'diff'
  data: DataKind
  n: number
  d: number
  k: number
  /** Of each of the two stores. */
  tokens: number
  threads: number
  weights: 'f32' | 'bf16'
  isa: string
  cpu: string
  storeBytes: number
  /** Of the whole command: starting, preparing the SAE, both stores, tests over all latents, the table. */
  seconds: number
  tokensPerSecond: number
  /** From the first batch of a store to its saved statistics. */
  streamTokensPerSecond: number
  /** Of activations in memory, without statistics; measured before and after each run. */
  encodeTokensPerSecond: number
  /** streamTokensPerSecond / encodeTokensPerSecond, the median of all rounds; and of each. */
  shareOfEncode: number
  sharesOfEncode: number[]
  prepareSeconds: number
  preparedBytes: number
  /** Largest resident memory that is no page of a mapped file, less the prepared copy. */
  peakBeyondPreparedBytes: number
  /** Pages of mapped files counted. */
  peakRssBytes: number
  /** The table of a run that was killed and resumed has the same bytes. */
  resumedEqual: boolean
}

/** Intervals, p- and q-values over all latents, from statistics on disk. */
export interface BootstrapResult {
  bench: 'bootstrap'
  n: number
  /** Every latent is active in each of them. */
  prompts: number
  resamples: number
  threads: number
  isa: string
  cpu: string
  statisticsBytes: number
  loadSeconds: number
  seconds: number
  cpuSeconds: number
  peakRssBytes: number
  /** Without the pages of mapped files, which the system may take back. */
  peakAnonymousBytes: number
}

export interface CallResult {
  bench: 'call'
  case: string
  /** Median time of a call beyond the work in it, in microseconds. */
  overheadMicroseconds: number
  callsPerSecond: number
}

export type BenchResult =
  EncodeResult | BandwidthResult | LoadResult | DiffResult | BootstrapResult | CallResult

/** Of an even number of values, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2
}

/** Rounded to so many digits that count. */
export const significant = (value: number, digits = 4): number => Number(value.toPrecision(digits))
