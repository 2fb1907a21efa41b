/** Whose the latents of a crosscoder are, by the relative norm of their decoder vectors. */
import { rankByDecoderNorm, type DecoderNormRanking } from '../diffing/crosscoder.js'
import { writeDecoderNormTable } from '../diffing/diff-table.js'
import type { Sae } from '../sae/sae.js'
import { UsageError } from './errors.js'
import type { Terminal } from './program.js'
import { streamProgress } from './progress/stream.js'
import type { DiffCommandOptions } from './stream-commands.js'
import { loadSae } from './stream-inputs.js'
import { figure, SHOWN, tableOf, topOf } from './tables.js'

export const isCrosscoder = (sae: Sae): boolean => (sae.spec.layers ?? 1) > 1

/** The latents of a crosscoder by whose they are, from its decoder alone. */
export async function rankCrosscoder(
  options: DiffCommandOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const sae = options.sae === undefined ? undefined : (await loadSae(options, terminal, signal)).sae
  if (sae === undefined || !isCrosscoder(sae))
    throw new UsageError(
      '--base and --tuned are missing',
      'only the latents of a crosscoder are ranked without them',
    )
  const progress = streamProgress(terminal, options.json === true)
  const norms = await rankByDecoderNorm(sae, { signal, onProgress: progress.step('rank') }).finally(() =>
    progress.close(),
  )
  const rows = await writeDecoderNormTable(options.out, norms, { ...topOf(options), signal })
  const { out } = options
  const { latents } = sae
  terminal.stdout.write(
    options.json
      ? `${JSON.stringify({ out, rows, latents, decoderNorms: endsOf(norms) })}\n`
      : `${normTables(norms)}${out}: ${rows} of ${latents} latents\n`,
  )
}

interface RankedNorm {
  index: number
  relativeDecoderNorm: number | null
}

export function endsOf({
  relative,
  descending,
  ascending,
}: DecoderNormRanking): Record<'top' | 'bottom', RankedNorm[]> {
  const first = (ranked: Uint32Array): RankedNorm[] =>
    Array.from(ranked.subarray(0, SHOWN), (index) => {
      const found = relative[index]!
      return { index, relativeDecoderNorm: Number.isNaN(found) ? null : found }
    })
  return { top: first(descending), bottom: first(ascending) }
}

export function normTables(norms: DecoderNormRanking): string {
  const { top, bottom } = endsOf(norms)
  return `most of the last model\n${normTable(top)}\nleast of the last model\n${normTable(bottom)}\n`
}

function normTable(ranked: readonly RankedNorm[]): string {
  return tableOf(
    ['rank', 'latent', 'relative decoder norm'],
    ranked.map((one, i) => [i + 1, one.index, figure(one.relativeDecoderNorm ?? Number.NaN)]),
  )
}
