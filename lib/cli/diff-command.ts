import { mkdir, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { callNative } from '../core/task.js'
import { beginCollectStats } from '../diffing/collect.js'
import { rankByDecoderNorm } from '../diffing/crosscoder.js'
import { diffLatents, type LatentChange } from '../diffing/diff.js'
import { writeDiffTable } from '../diffing/diff-table.js'
import { ActivationStore } from '../activations/store.js'
import { LatentStats } from '../diffing/latent-stats.js'
import { requireSamePrompts, type PromptsOf } from '../diffing/prompts.js'
import type { Sae } from '../sae/sae.js'
import { endsOf, isCrosscoder, normTables, rankCrosscoder } from './crosscoder-ranking.js'
import { UsageError } from './errors.js'
import { originFrom, originOf, requireSameOrigin, type Named } from './origin.js'
import { prepareOutput } from './output.js'
import type { Terminal } from './program.js'
import { streamProgress, type StreamProgress } from './progress/stream.js'
import type { DiffCommandOptions } from './stream-commands.js'
import { applyThreads, loadSae, resumable, type LoadedSae } from './stream-inputs.js'
import { figure, SHOWN, tableOf, topOf } from './tables.js'

/** A row without NaN, which JSON does not know. */
const toJson = (one: LatentChange): object =>
  Object.fromEntries(Object.entries(one).map(([key, value]) => [key, Number.isNaN(value) ? null : value]))

const share = (value: number): string => `${figure(100 * value)} %`

export async function runDiffCommand(
  options: DiffCommandOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  applyThreads(options)
  const { base, tuned } = options
  await prepareOutput(options.out, [options.sae, base, ...(tuned ?? [])])
  if (base === undefined && tuned === undefined) return rankCrosscoder(options, terminal, signal)
  if (base === undefined) throw new UsageError('--base is missing', 'it names the model before')
  if (tuned === undefined) throw new UsageError('--tuned is missing', 'it names a model after')
  const progress = streamProgress(terminal, options.json === true)
  const work = `${options.out}.work`
  const writing: Promise<unknown>[] = []
  const { diff, rows, decoderNorms } = await resumable(signal, async () => {
    if (!options.resume) await rm(work, { recursive: true, force: true })
    const { stats, sae } = await allStats(options, [base, ...tuned], work, {
      terminal,
      progress,
      signal,
      writing,
    })
    const [before, ...after] = stats
    const found = await diffLatents(before!, after, {
      bootstrap: options.bootstrap,
      seed: options.seed,
      test: options.test,
      signal,
      onProgress: progress.step('test'),
    })
    const norms =
      sae !== undefined && isCrosscoder(sae) ? await rankByDecoderNorm(sae, { signal }) : undefined
    const written = await writeDiffTable(options.out, found, {
      ...topOf(options),
      decoderNorms: norms,
      metadata: {
        base,
        tuned: JSON.stringify(tuned),
        test: options.test,
        bootstrap: String(options.bootstrap),
        seed: String(options.seed),
        tokens: options.tokens,
      },
      signal,
    })
    return { diff: found, rows: written, decoderNorms: norms }
  })
    // Statistics that are still being written are what the next run goes on with, if this one failed.
    .finally(() => Promise.allSettled(writing))
    .finally(() => progress.close())
    .catch(async (error: unknown) => {
      await rmdir(work).catch(() => undefined) // where nothing was done yet there is nothing to go on with
      throw error
    })
  await rm(work, { recursive: true, force: true })
  const about = { out: options.out, rows, latents: diff.latents, alive: diff.alive, prompts: diff.groups }
  if (options.json) {
    const ends = { top: diff.top(SHOWN).map(toJson), bottom: diff.bottom(SHOWN).map(toJson) }
    const norms = decoderNorms === undefined ? {} : { decoderNorms: endsOf(decoderNorms) }
    terminal.stdout.write(`${JSON.stringify({ ...about, ...ends, ...norms })}\n`)
    return
  }
  terminal.stdout.write(
    `largest increase\n${table(diff.top(SHOWN))}\nlargest decrease\n${table(diff.bottom(SHOWN))}\n` +
      (decoderNorms === undefined ? '' : normTables(decoderNorms)) +
      `${options.out}: ${rows} of ${diff.latents} latents (${diff.alive} alive), ${diff.groups} prompts\n`,
  )
}

interface StatsTask {
  terminal: Terminal
  progress: StreamProgress
  signal: AbortSignal
  /** Gets what goes on after statistics were returned. */
  writing: Promise<unknown>[]
}

/** Statistics of the base and of every tuned model: read, or collected from their activations; and the SAE, if given. */
async function allStats(
  options: DiffCommandOptions,
  inputs: readonly string[],
  work: string,
  { terminal, progress, signal, writing }: StatsTask,
): Promise<{ stats: LatentStats[]; sae: Sae | undefined }> {
  const names = inputs.map((_, i) => (i === 0 ? 'base' : inputs.length === 2 ? 'tuned' : `tuned ${i}`))
  // Everything is opened before the first is encoded: what is wrong is said at once.
  const opened: (LatentStats | ActivationStore)[] = []
  const origins: Named[] = []
  for (const path of inputs) {
    const saved = await savedStats(path, signal)
    opened.push(saved?.stats ?? (await ActivationStore.open(path)))
    if (saved !== undefined) origins.push({ name: path, origin: originFrom(saved.extra) })
  }
  requireSameOrigin(origins)
  const known: PromptsOf[] = []
  for (const [i, one] of opened.entries())
    known.push({
      name: inputs[i]!,
      prompts:
        one instanceof LatentStats
          ? new Map(Array.from(one.groupRows().groups, (group) => [group, undefined]))
          : await one.promptDigests({ signal }),
    })
  if (!options.anyPrompts) requireSamePrompts(known)
  const stores = opened.filter((one) => one instanceof ActivationStore)
  stores[0]?.checkAhead({ signal }) // while the SAE is loaded
  let loaded: LoadedSae | undefined =
    options.sae === undefined ? undefined : await loadSae(options, terminal, signal)
  if (loaded !== undefined && origins.length > 0) {
    const { sae, tokens } = originOf(loaded.sae, options)
    const collects = opened.some((one) => one instanceof ActivationStore)
    const origin = collects ? { sae, tokens } : { sae }
    requireSameOrigin([{ name: `--sae ${options.sae}`, origin }, ...origins])
  }
  const stats: Promise<LatentStats>[] = []
  for (const [i, one] of opened.entries()) {
    if (one instanceof LatentStats) {
      stats.push(Promise.resolve(one))
      continue
    }
    loaded ??= await loadSae(options, terminal, signal)
    await mkdir(work, { recursive: true }).catch(() => undefined) // writing the checkpoint tells what is wrong
    const file = join(work, `${i}.safetensors`)
    const next = stores[stores.indexOf(one) + 1]
    next?.checkAhead({ signal })
    const collected = await beginCollectStats(loaded.sae, one, {
      perGroup: true,
      select: options.tokens,
      checkpoint: { file, identity: JSON.stringify([loaded.identity, options.tokens]) },
      signal,
      onProgress: progress.step(names[i]!),
    })
    // The last ones are compared while they are written; the others are written while the next is encoded.
    const kept = next === undefined ? Promise.resolve(collected.stats) : fromFile(file, collected, signal)
    writing.push(collected.written, kept)
    kept.catch(() => undefined) // told below
    stats.push(kept)
  }
  return { stats: await Promise.all(stats), sae: loaded?.sae }
}

/** From their file, where the sums per prompt can stay: those of all models may be more than memory holds. */
async function fromFile(
  file: string,
  { stats, written }: { stats: LatentStats; written: Promise<void> },
  signal: AbortSignal,
): Promise<LatentStats> {
  await written
  callNative(() => stats.native.release())
  return LatentStats.load(file, { signal })
}

/** Statistics, if the file is one of ours. */
async function savedStats(
  path: string,
  signal: AbortSignal,
): Promise<Awaited<ReturnType<typeof LatentStats.loadWithExtra>> | undefined> {
  if (!(await LatentStats.recognise(path))) return undefined
  return LatentStats.loadWithExtra(path, { signal })
}

function table(latents: readonly LatentChange[]): string {
  return tableOf(
    ['rank', 'latent', 'delta', 'effect', 'interval', 'q', 'active base', 'active tuned'],
    latents.map((one) => [
      one.rank,
      one.index,
      figure(one.delta),
      figure(one.effectSize),
      Number.isNaN(one.low) ? '' : `${figure(one.low)} … ${figure(one.high)}`,
      figure(one.qValue),
      share(one.shareBefore),
      share(one.shareAfter),
    ]),
  )
}
