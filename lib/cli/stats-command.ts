import { ActivationStore } from '../activations/store.js'
import { collectStats, removeCheckpoint } from '../diffing/collect.js'
import { LatentStats } from '../diffing/latent-stats.js'
import { UsageError } from './errors.js'
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
  const stats =
    options.merge === undefined ? await collected(options, terminal, signal) : await merged(options, signal)
  await stats.save(options.out, { signal })
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

async function merged(options: StatsCommandOptions, signal: AbortSignal): Promise<LatentStats> {
  if (options.activations !== undefined || options.sae !== undefined)
    throw new UsageError('--merge cannot be combined with --activations or --sae')
  const all: LatentStats[] = []
  for (const file of options.merge ?? []) all.push(await LatentStats.load(file, { signal }))
  return LatentStats.merge(all, { signal })
}

async function collected(
  options: StatsCommandOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<LatentStats> {
  if (options.activations === undefined)
    throw new UsageError('--activations is missing', 'give activations and an SAE, or files to --merge')
  const store = await ActivationStore.open(options.activations)
  const { sae, identity } = await loadSae(options, terminal, signal)
  const file = checkpointOf(options)
  if (!options.resume) await removeCheckpoint(file)
  const progress = streamProgress(terminal, options.json === true)
  return resumable(signal, () =>
    collectStats(sae, store, {
      perGroup: true,
      examples: options.examples,
      select: options.tokens,
      checkpoint: { file, identity: JSON.stringify([identity, options.tokens, options.examples]) },
      signal,
      onProgress: progress.step('stats'),
    }),
  ).finally(() => progress.close())
}
