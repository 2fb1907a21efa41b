import { encodeStore } from '../activations/encode-store.js'
import { ActivationStore } from '../activations/store.js'
import { prepareOutput } from './output.js'
import type { Terminal } from './program.js'
import { streamProgress } from './progress/stream.js'
import type { EncodeCommandOptions } from './stream-commands.js'
import { applyThreads, loadSae, resumable } from './stream-inputs.js'

export async function runEncodeCommand(
  options: EncodeCommandOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  applyThreads(options)
  await prepareOutput(options.out, [options.sae, options.activations])
  const store = await ActivationStore.open(options.activations)
  const { sae, identity } = await loadSae(options, terminal, signal)
  const progress = streamProgress(terminal, options.json === true)
  const written = await resumable(signal, () =>
    encodeStore(sae, store, options.out, {
      select: options.tokens,
      identity,
      resume: options.resume === true,
      signal,
      onProgress: progress.step('encode'),
    }),
  ).finally(() => progress.close())
  if (options.json) {
    terminal.stdout.write(
      `${JSON.stringify({ out: options.out, latents: sae.latents, tokens: written.rows, pairs: written.pairs, k: written.k ?? null })}\n`,
    )
    return
  }
  const counts =
    written.k === undefined
      ? `${(written.pairs / written.rows).toFixed(1)} codes a token on average`
      : `${written.k} codes a token`
  terminal.stdout.write(`${options.out}: ${written.rows} tokens, ${counts}, of ${sae.latents} latents\n`)
}
