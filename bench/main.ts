/**
 * Runs a bench: npm run bench -- <name> [options]. Prints a line a result, with --json one JSON object a line. --record
 * also keeps the results, with the machine's description, in bench/results/<name>.json.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { cpus, loadavg, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { runtimeInfo } from 'personascope'
import {
  benchNames,
  presets,
  runBench,
  type BenchName,
  type BenchOptions,
  type BenchResult,
} from './index.js'
import { root } from './native.js'
import { transformerBench } from './transformer.js'

const text = { type: 'string' } as const
const usage = `usage: npm run bench -- <${[...benchNames, 'transformer'].join(' | ')}> [--json] [--record]
  [--preset ${Object.keys(presets).join(',')}] [--n N,…] [--d N,…] [--k N] [--tokens N,…] [--threads N,…]
  [--data gaussian,sae-like] [--precision auto,fp32,bf16,int8] [--weights f32,bf16] [--rounds N]
  [--peers NAME,… | --no-peers] [--check-tokens N] [--python PATH] [--folder PATH]`

function fail(message: string): never {
  console.error(`bench: ${message}\n${usage}`)
  process.exit(2)
}

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        json: { type: 'boolean', default: false },
        record: { type: 'boolean', default: false },
        'no-peers': { type: 'boolean', default: false },
        preset: text,
        n: text,
        d: text,
        k: text,
        tokens: text,
        threads: text,
        data: text,
        precision: text,
        weights: text,
        rounds: text,
        peers: text,
        'check-tokens': text,
        python: text,
        folder: text,
      },
    })
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error))
  }
}

const { values, positionals } = parse()
const [name = ''] = positionals

function whole(option: string, found: string): number {
  const value = Number(found)
  if (!Number.isInteger(value) || value < 1)
    fail(`--${option}: found '${found}', expected a whole number from 1`)
  return value
}

function oneOf<const Value extends string>(option: string, allowed: readonly Value[], found: string): Value {
  if (!(allowed as readonly string[]).includes(found))
    fail(`--${option}: found '${found}', expected one of ${allowed.join(', ')}`)
  return found as Value
}

/** Each of `from` with each of the values of an option, where there are some. */
function every<Key extends keyof BenchOptions>(
  from: BenchOptions[],
  key: Key,
  given: BenchOptions[Key][] | undefined,
): BenchOptions[] {
  if (given === undefined) return from
  return from.flatMap((one) => given.map((value) => ({ ...one, [key]: value })))
}

/** Every combination of the listed values, presets first. */
function combinations(): BenchOptions[] {
  const list = (option: keyof typeof values): string[] | undefined => {
    const given = values[option]
    return typeof given === 'string' ? given.split(',') : undefined
  }
  let all: BenchOptions[] = (list('preset') ?? ['']).map((preset) => {
    if (preset === '') return {}
    return presets[oneOf('preset', Object.keys(presets), preset)]!
  })
  for (const key of ['n', 'd', 'k', 'tokens', 'threads', 'rounds'] as const)
    all = every(
      all,
      key,
      list(key)?.map((found) => whole(key, found)),
    )
  all = every(
    all,
    'data',
    list('data')?.map((found) => oneOf('data', ['gaussian', 'sae-like'], found)),
  )
  all = every(
    all,
    'precision',
    list('precision')?.map((found) => oneOf('precision', ['auto', 'fp32', 'bf16', 'int8'], found)),
  )
  all = every(
    all,
    'weights',
    list('weights')?.map((found) => oneOf('weights', ['f32', 'bf16'], found)),
  )
  if (values['check-tokens'] !== undefined)
    all = every(all, 'checkTokens', [whole('check-tokens', values['check-tokens'])])
  if (values.python !== undefined) all = every(all, 'python', [values.python])
  if (values.folder !== undefined) all = every(all, 'folder', [values.folder])
  if (values.peers !== undefined) all = every(all, 'peers', [values.peers.split(',')])
  if (values['no-peers']) all = every(all, 'peers', [[]])
  return all
}

function percent(share: number | null): string {
  return share === null ? '–' : `${Math.round(100 * share)} %`
}

/** What a person wants to see of a result. */
function summary(result: BenchResult): string {
  if (result.bench === 'call') return `call: ${result.case}: ${result.overheadMicroseconds} µs`
  if (result.bench === 'diff')
    return `diff: two stores of ${result.tokens} tokens (${Math.round(result.storeBytes / 1e6)} MB each), n ${result.n}, d ${result.d}, k ${result.k}, ${result.threads} threads: ${result.streamTokensPerSecond} tokens/s, ${percent(result.shareOfEncode)} of encoding alone; ${Math.round(result.peakBeyondPreparedBytes / 1e6)} MB beyond the prepared copy; killed and resumed: ${result.resumedEqual ? 'the same bytes' : 'OTHER BYTES'}`
  if (result.bench === 'bootstrap')
    return `bootstrap: ${result.n} latents × ${result.prompts} prompts × ${result.resamples} resamples, ${result.threads} threads: ${result.seconds} s, ${Math.round(result.peakAnonymousBytes / 1e6)} MB (${Math.round(result.peakRssBytes / 1e6)} MB with mapped files)`
  if (result.bench === 'load')
    return `load: ${result.n} × ${result.d} ${result.weights}: open ${result.openSeconds} s, prepare ${result.prepareSeconds} s`
  const ratios = Object.entries(result.ratio)
    .map(([peer, ratio]) => `${peer} ${ratio === null ? 'absent' : `${ratio}×`}`)
    .join(', ')
  const { bench, data, n, d, k, tokens, threads, isa } = result
  const where = `${data}, n ${n}, d ${d}, k ${k}, ${tokens} tokens, ${threads} threads, ${isa}`
  if (result.bench === 'encode')
    return `${bench} (${where}, ${result.precision}): ${result.tokensPerSecond} tokens/s, ${percent(result.peakFraction)} of peak, wrong tokens ${result.wrongTokens} of ${result.checkedTokens}; ${ratios}`
  return `${[bench, result.case].join(' ').trim()} (${where}, ${result.weights}): ${result.gbytesPerSecond} GB/s, ${percent(result.peakFraction)} of peak; ${ratios}`
}

/** Keeps a run in `results/<bench>.json`, in the place of an earlier run of the same command. */
async function record(results: readonly object[], loadBefore: number): Promise<void> {
  const { cpu, cpuFeatures, isa } = runtimeInfo()
  const machine = {
    cpu,
    cpuFeatures,
    isa,
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    loadBefore: Number(loadBefore.toFixed(2)),
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
  }
  const command = ['npm run bench --', ...process.argv.slice(2)].join(' ')
  const file = join(root, 'bench', 'results', `${name}.json`)
  const kept = await readFile(file, 'utf8').then(
    (found) => JSON.parse(found) as { command: string }[],
    () => [],
  )
  const runs = [...kept.filter((run) => run.command !== command), { command, machine, results }]
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, `${JSON.stringify(runs, null, 2)}\n`)
}

function onMessage(message: string): void {
  process.stderr.write(`${message} …\n`)
}

const loadBefore = loadavg()[0]!
const results: object[] = []
if (name === 'transformer') {
  for await (const result of transformerBench(combinations()[0]!)) {
    results.push(result)
    console.log(JSON.stringify(result))
  }
} else {
  const bench: BenchName = oneOf('name', benchNames, name)
  for (const options of combinations()) {
    for (const result of await runBench(bench, { ...options, onMessage })) {
      results.push(result)
      console.log(values.json ? JSON.stringify(result) : summary(result))
      if ('absent' in result)
        for (const [peer, why] of Object.entries(result.absent))
          process.stderr.write(`${peer} is absent: ${why}\n`)
    }
  }
}
if (values.record) await record(results, loadBefore)
