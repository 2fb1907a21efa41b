import { ActivationStore } from '../activations/store.js'
import { collectStats, removeCheckpoint } from '../diffing/collect.js'
import { LatentStats } from '../diffing/latent-stats.js'
import { UsageError } from './errors.js'
import { originFrom, originOf, requireSameOrigin, type Named, type Origin } from './origin.js'
import { prepareOutput } from './output.js'
import type { Terminal } from './program.js'
import { streamProgress } from './progress/stream.js'
import type { StatsCommandOptions } from './stream-commands.js'
import { applyThreads, loadSae, resumable } from './stream-inputs.js'

export async function runStatsCommand(
  options: StatsCommandOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  applyThreads(options)
  await prepareOutput(options.out, [options.sae, options.activations, ...(options.merge ?? [])])
  const { stats, origin } =
    options.merge === undefined ? await collected(options, terminal, signal) : await merged(options, signal)
  const extra = Object.fromEntries(Object.entries(origin).filter(([, value]) => value !== undefined))
  await stats.save(options.out, { signal, extra })
  if (options.activations !== undefined) await removeCheckpoint(checkpointOf(options))
  const alive = stats.activeCount.reduce((count, active) => count + (active > 0 ? 1 : 0), 0)
  const about = {
    latents: stats.latents,
    tokens: stats.rows,
    prompts: stats.groupRows().groups.length,
    alive,
  }
  if (options.json) terminal.stdout.write(`${JSON.stringify({ out: options.out, ...about })}\n`)
  else
    terminal.stdout.write(
      `${options.out}: ${about.tokens} tokens of ${about.prompts} prompts, ${alive} of ${about.latents} latents alive\n`,
    )
}

const checkpointOf = (options: StatsCommandOptions): string => `${options.out}.checkpoint`

interface Collected {
  stats: LatentStats
  origin: Origin
}

async function merged(options: StatsCommandOptions, signal: AbortSignal): Promise<Collected> {
  if (options.activations !== undefined || options.sae !== undefined)
    throw new UsageError('--merge cannot be combined with --activations or --sae')
  const all: LatentStats[] = []
  const origins: Named[] = []
  for (const file of options.merge ?? []) {
    const { stats, extra } = await LatentStats.loadWithExtra(file, { signal })
    all.push(stats)
    origins.push({ name: file, origin: originFrom(extra) })
  }
  requireSameOrigin(origins)
  const [sae, tokens] = (['sae', 'tokens'] as const).map((key) =>
    // Said of all, or of none.
    origins.every(({ origin }) => origin[key] !== undefined) ? origins[0]?.origin[key] : undefined,
  )
  return { stats: await LatentStats.merge(all, { signal }), origin: { sae, tokens } }
}

async function collected(
  options: StatsCommandOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<Collected> {
  if (options.activations === undefined)
    throw new UsageError('--activations is missing', 'give activations and an SAE, or files to --merge')
  const store = await ActivationStore.open(options.activations)
  const { sae, identity } = await loadSae(options, terminal, signal)
  const file = checkpointOf(options)
  if (!options.resume) await removeCheckpoint(file)
  const progress = streamProgress(terminal, options.json === true)
  const origin = originOf(sae, options)
  const stats = await resumable(signal, () =>
    collectStats(sae, store, {
      perGroup: true,
      examples: options.examples,
      select: options.tokens,
      checkpoint: { file, identity: JSON.stringify([identity, options.tokens, options.examples]) },
      signal,
      onProgress: progress.step('stats'),
    }),
  ).finally(() => progress.close())
  return { stats, origin }
}
