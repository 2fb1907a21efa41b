import { PersonascopeError, requireArgument } from '../core/errors.js'
import { throwIfAborted, type TaskOptions } from '../core/task.js'
import { LatentStats } from '../diffing/latent-stats.js'
import type { Hook } from '../models/hook.js'
import type { LanguageModel, TokenSelection } from '../models/language-model.js'
import type { Sae } from '../sae/sae.js'

/** A text that latents are read on, e.g. a pretraining document. */
export interface SourceDocument {
  tokens: Int32Array
  /** What is known of it, e.g. who speaks. */
  label?: string | null
}

/** One of the documents on which a latent is strongest. */
export interface TopDocument {
  /** Index into the documents. */
  document: number
  label: string | null
  /** Its strongest activation, and where. */
  max: number
  position: number
  tokens: Int32Array
  /** Of the latent, one a token; 0 where it is not among the active ones. */
  activations: Float32Array
}

/** What is needed of statistics (LatentStats, or saved ones): a latent's strongest documents, best first. */
export interface LatentExamples {
  /** `group` is the index of the document, `value` the latent's strongest activation on it. */
  examples(latent: number): readonly { value: number; group: number }[]
}

export interface DocumentOptions extends TaskOptions {
  hook: Hook
  /** Tokens that are read. Default 'after-first'. */
  tokens?: TokenSelection
  /** Documents read together; bounds memory. Default 64. */
  batchSize?: number
}

/**
 * One pass over documents: statistics of every latent, each with its `count` strongest documents (groups are indices
 * of documents). The statistics are over the tokens of all documents, so they also give densities.
 */
export async function documentStats(
  model: Pick<LanguageModel, 'capture'>,
  sae: Sae,
  documents: readonly SourceDocument[],
  options: DocumentOptions & { count?: number },
): Promise<LatentStats> {
  const { count = 50, signal, onProgress } = options
  let done = 0
  async function* batches(): AsyncGenerator<{ values: Float32Array; groups: Uint32Array }> {
    for (const [first, batch] of chunks(documents, options.batchSize)) {
      const { values, sequence } = await captureDocuments(model, batch, first, options)
      yield { values, groups: sequence.map((document) => first + document) }
      done += batch.length
      onProgress?.({ done, total: documents.length, unit: 'documents' })
    }
  }
  return LatentStats.collect(sae, batches(), {
    examples: count,
    distinctGroups: true,
    signal,
  })
}

/**
 * The strongest documents of some latents, each with its activation at every token: the documents come from `stats`
 * (of {@link documentStats} over the same documents), and only they are read again.
 */
export async function topDocuments(
  model: Pick<LanguageModel, 'capture'>,
  sae: Sae,
  stats: LatentExamples,
  documents: readonly SourceDocument[],
  latents: readonly number[],
  options: DocumentOptions & { count?: number },
): Promise<Map<number, TopDocument[]>> {
  const { count = 50 } = options
  const found = new Map<number, TopDocument[]>()
  /** Document → what is wanted of it: latent → its top document. */
  const wanted = new Map<number, Map<number, TopDocument>>()
  for (const latent of latents) {
    const top = stats
      .examples(latent)
      .slice(0, count)
      .map(({ group, value }): TopDocument => {
        const source = documents[group]
        requireArgument(
          source !== undefined,
          `stats: latent ${latent} has an example in document ${group}, but there are only ${documents.length}`,
        )
        return {
          document: group,
          label: source.label ?? null,
          max: value,
          position: -1,
          tokens: source.tokens,
          activations: new Float32Array(source.tokens.length),
        }
      })
    found.set(latent, top)
    for (const one of top) {
      const entry = wanted.get(one.document) ?? new Map<number, TopDocument>()
      wanted.set(one.document, entry.set(latent, one))
    }
  }
  const order = [...wanted.keys()].toSorted((a, b) => a - b)
  for (const [, numbers] of chunks(order, options.batchSize))
    await readActivations(
      model,
      sae,
      numbers.map((number) => ({
        number,
        source: documents[number] as SourceDocument,
        wanted: wanted.get(number) as Map<number, TopDocument>,
      })),
      options,
    )
  for (const [latent, top] of found)
    for (const { document, max, position, activations } of top)
      if (activations[position] !== max)
        throw new PersonascopeError(
          'ERR_INVALID_ARGUMENT',
          `document ${document} is not the one that the statistics saw: latent ${latent} reaches ${activations[position]} on it, expected ${max}`,
        )
  return found
}

interface WantedDocument {
  number: number
  source: SourceDocument
  wanted: Map<number, TopDocument>
}

/** Fills in the activations and positions of what is wanted of these documents. */
async function readActivations(
  model: Pick<LanguageModel, 'capture'>,
  sae: Sae,
  batch: readonly WantedDocument[],
  options: DocumentOptions,
): Promise<void> {
  throwIfAborted(options)
  const selection = options.tokens ?? 'after-first'
  const tokens =
    typeof selection === 'string'
      ? selection
      : batch.map(({ number }) => selection[number] ?? new Uint8Array(0))
  const captured = await model.capture(
    batch.map(({ source }) => source.tokens),
    { hook: options.hook, tokens, signal: options.signal },
  )
  const codes = await sae.encode(captured.values, { signal: options.signal })
  for (let row = 0; row < captured.rows; row++) {
    const document = batch[captured.sequence[row] as number] as WantedDocument
    const position = captured.position[row] as number
    const end = codes.offsets[row + 1] as number
    for (let j = codes.offsets[row] as number; j < end; j++) {
      const top = document.wanted.get(codes.indices[j] as number)
      if (top === undefined) continue
      const value = codes.values[j] as number
      top.activations[position] = value
      if (top.position < 0 || value > (top.activations[top.position] as number)) top.position = position
    }
  }
}

function captureDocuments(
  model: Pick<LanguageModel, 'capture'>,
  batch: readonly SourceDocument[],
  first: number,
  options: DocumentOptions,
): ReturnType<LanguageModel['capture']> {
  throwIfAborted(options)
  const { hook, tokens = 'after-first', signal } = options
  return model.capture(
    batch.map((document) => document.tokens),
    { hook, tokens: typeof tokens === 'string' ? tokens : tokens.slice(first, first + batch.length), signal },
  )
}

function* chunks<Item>(items: readonly Item[], size = 64): Generator<[first: number, chunk: Item[]]> {
  requireArgument(
    Number.isSafeInteger(size) && size > 0,
    `batchSize: found ${size}, expected a positive whole number`,
  )
  for (let first = 0; first < items.length; first += size) yield [first, items.slice(first, first + size)]
}
