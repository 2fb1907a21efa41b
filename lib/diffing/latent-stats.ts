import { DeviceTensor } from '../core/device-tensor.js'
import { PersonascopeError, requireArgument, toPersonascopeError } from '../core/errors.js'
import { callNative, runNative, throwIfAborted, type TaskOptions } from '../core/task.js'
import { native, type NativeLatentStats } from '../native.js'
import type { SparseCodes } from '../sae/codes.js'
import { DeviceCodes } from '../sae/device-codes.js'
import type { Sae } from '../sae/sae.js'
import { isStatsFile, readStats, writeStats } from './stats-file.js'

/** Activations to collect statistics over; CapturedActivations and the batches of an ActivationStore fit. */
export interface ActivationBatch {
  /** [rows, dModel], row-major, or a tensor of the host or of the SAE's device. */
  values: Float32Array | DeviceTensor
  /** Prompt or document of each row. */
  groups?: Uint32Array | undefined
  /** Taken for `groups` where those are left out. */
  sequence?: Uint32Array | undefined
  /** A number of each row, kept with examples. Default: the running number of the row. */
  ids?: Float64Array | undefined
  /** [rows]: rows that count, not 0; the others are not encoded. Default: all. */
  mask?: Uint8Array | undefined
}

export interface LatentStatsOptions {
  /** Rows of largest value kept a latent, at most 4096. Default 0. */
  examples?: number
  /** Of each group only its best row is kept as an example. Default false. */
  distinctGroups?: boolean
  /** Latents that examples are kept of. Default: all. */
  exampleLatents?: Uint32Array | readonly number[] | undefined
  /** Keep sums per group, for intervals over prompts. Needs groups with every batch. Default false. */
  perGroup?: boolean
}

/** A row on which a latent is strong. */
export interface LatentExample {
  value: number
  /** The row's id. */
  id: number
  group: number
}

/**
 * Per latent over a stream of rows: rows seen, Σ, Σ², rows active, maximum; where asked the rows of largest value and
 * the sums per group. Sums are exact and rounded when read: the same rows give the same bits whatever their order, the
 * batches, the threads, and the parts that were merged.
 */
export class LatentStats {
  readonly latents: number
  readonly options: Readonly<Required<Omit<LatentStatsOptions, 'exampleLatents'>>> & {
    readonly exampleLatents: Uint32Array | undefined
  }
  readonly #native: NativeLatentStats

  constructor(latents: number, options: LatentStatsOptions = {}) {
    this.latents = latents
    const watched = options.exampleLatents
    this.options = {
      examples: options.examples ?? 0,
      distinctGroups: options.distinctGroups ?? false,
      perGroup: options.perGroup ?? false,
      exampleLatents: watched === undefined ? undefined : Uint32Array.from(watched).toSorted(),
    }
    this.#native = callNative(() => new native.LatentStats({ latents, ...this.options }))
  }

  /**
   * Encodes batches and gathers statistics, codes are not kept. Errors: `ERR_INVALID_ARGUMENT`, `ERR_NON_FINITE`
   * (row and dimension of the batch named).
   */
  static async collect(
    sae: Sae,
    batches: AsyncIterable<ActivationBatch> | Iterable<ActivationBatch> | ActivationBatch,
    options: LatentStatsOptions & TaskOptions = {},
  ): Promise<LatentStats> {
    const stats = new LatentStats(sae.latents, options)
    const { signal, onProgress } = options
    let rows = 0
    for await (const batch of isBatch(batches)
      ? [batches as ActivationBatch]
      : (batches as AsyncIterable<ActivationBatch> | Iterable<ActivationBatch>)) {
      throwIfAborted(options)
      await stats.addActivations(sae, batch, { signal })
      rows += sizeOf(batch.values) / sae.dModel
      onProgress?.({ done: rows, total: 0, unit: 'tokens' })
    }
    return stats
  }

  /** Encodes a batch and adds it. Where it fails or is aborted, rows of the batch may have been added. */
  async addActivations(sae: Sae, batch: ActivationBatch, options?: TaskOptions): Promise<void> {
    const chosen = batch.mask === undefined ? batch : maskedBatch(batch, sae.dModel, batch.mask)
    const groups = chosen.groups ?? chosen.sequence
    const { values } = chosen
    if (values instanceof DeviceTensor)
      return this.add(await sae.encode(values, options), { groups, ids: chosen.ids }, options)
    await runNative(options, 'tokens', (job) =>
      sae.native.encodeInto(this.#native, values, groups, chosen.ids, job),
    )
  }

  /** Adds codes at hand. Where it fails nothing is added. */
  async add(
    codes: SparseCodes | DeviceCodes,
    about: { groups?: Uint32Array | undefined; ids?: Float64Array | undefined } = {},
    options?: TaskOptions,
  ): Promise<void> {
    const here = codes instanceof DeviceCodes ? await codes.download(options) : codes
    await runNative(options, 'tokens', (job) => this.#native.add(here, about.groups, about.ids, job))
  }

  /** New statistics over the rows of all; they must have the same latents and options. */
  static async merge(all: readonly LatentStats[], options?: TaskOptions): Promise<LatentStats> {
    const [first] = all
    requireArgument(first !== undefined, 'statistics to merge: found none')
    const merged = new LatentStats(first.latents, first.options)
    for (const stats of all)
      await runNative(options, 'statistics', (job) => merged.#native.merge(stats.#native, job))
    return merged
  }

  /**
   * Writes everything to a safetensors file, beside and renamed: merging what was loaded gives the same bits. `extra` is
   * kept in its metadata.
   */
  async save(
    path: string,
    options: TaskOptions & { extra?: Readonly<Record<string, string>> } = {},
  ): Promise<void> {
    await (
      await this.beginSave(path, options)
    ).written
  }

  /** @internal As `save`; resolves once the statistics may change again, while they are still being written. */
  async beginSave(
    path: string,
    options: TaskOptions & { extra?: Readonly<Record<string, string>> } = {},
  ): Promise<{ written: Promise<void> }> {
    const { extra = {}, ...task } = options
    const state = await runNative({ signal: task.signal }, 'latents', (job) => this.#native.state(job))
    const saved = { options: { latents: this.latents, ...this.options }, state, extra }
    const written = writeStats(path, saved, task).finally(() => state.release())
    return { written }
  }

  /** Reads what `save` wrote. Errors: `ERR_NOT_FOUND`, `ERR_FORMAT` naming the file and what is wrong. */
  static async load(path: string, options: TaskOptions = {}): Promise<LatentStats> {
    return (await LatentStats.loadWithExtra(path, options)).stats
  }

  /** Whether a file holds statistics; false for a folder and for other files. `ERR_NOT_FOUND` if nothing is there. */
  static recognise(path: string): Promise<boolean> {
    return isStatsFile(path)
  }

  /** As `load`, with the `extra` that was saved. */
  static async loadWithExtra(
    path: string,
    options: TaskOptions = {},
  ): Promise<{ stats: LatentStats; extra: Readonly<Record<string, string>> }> {
    const saved = await readStats(path, options)
    try {
      const stats = new LatentStats(saved.options.latents, saved.options)
      await runNative(options, 'latents', (job) => stats.#native.restore(saved.state, job))
      return { stats, extra: saved.extra }
    } catch (error) {
      const failure = toPersonascopeError(error)
      if (failure.code === 'ERR_ABORTED') throw failure
      throw new PersonascopeError('ERR_FORMAT', `${path}: ${failure.message}`, { cause: error })
    }
  }

  /** Rows seen. */
  get rows(): number {
    return callNative(() => this.#native.rows())
  }
  /** Σ of activations, one a latent; a copy, as the arrays below. */
  get sum(): Float64Array {
    return callNative(() => this.#native.array('sum'))
  }
  get sumOfSquares(): Float64Array {
    return callNative(() => this.#native.array('sumOfSquares'))
  }
  /** Rows in which each latent was active. */
  get activeCount(): Float64Array {
    return callNative(() => this.#native.array('activeCount'))
  }
  /** Largest activation; 0 for latents never active. */
  get max(): Float32Array {
    return callNative(() => this.#native.array('max'))
  }

  /** Mean activation over all rows, one a latent. */
  mean(): Float64Array {
    const { rows } = this
    requireArgument(rows > 0, 'mean of statistics over no rows')
    return this.sum.map((sum) => sum / rows)
  }

  /** The rows on which a latent is strongest, best first, equal values by lower id. */
  examples(latent: number): LatentExample[] {
    const { values, ids, groups } = callNative(() => this.#native.examples(latent))
    return Array.from(values, (value, i) => ({ value, id: ids[i]!, group: groups[i]! }))
  }

  /** Rows seen of each group, by rising group. */
  groupRows(): { groups: Uint32Array; rows: Float64Array } {
    return callNative(() => this.#native.groupRows())
  }

  /** Σ of a latent per group in which it was active, by rising group. */
  groupSums(latent: number): { groups: Uint32Array; sums: Float64Array } {
    return callNative(() => this.#native.groupSums(latent))
  }

  /** @internal */
  get native(): NativeLatentStats {
    return this.#native
  }
}

const sizeOf = (values: Float32Array | DeviceTensor): number =>
  values instanceof DeviceTensor ? values.size : values.length

/** One batch, not several. */
function isBatch(batches: object): boolean {
  return (
    'values' in batches && (batches.values instanceof Float32Array || batches.values instanceof DeviceTensor)
  )
}

/** The rows of a batch whose mask is not 0, copied. */
function maskedBatch(batch: ActivationBatch, dModel: number, mask: Uint8Array): ActivationBatch {
  const from = batch.values
  requireArgument(
    from instanceof Float32Array,
    'mask: found one with a tensor, expected an array of activations; take the rows that count, or leave it out',
  )
  const rows = from.length / dModel
  requireArgument(mask.length === rows, `mask: found ${mask.length} values, expected ${rows}`)
  const kept = mask.reduce((count, one) => count + (one === 0 ? 0 : 1), 0)
  if (kept === rows) return batch
  const pick = <Values extends Uint32Array | Float64Array>(
    values: Values | undefined,
  ): Values | undefined => {
    if (values === undefined) return undefined
    requireArgument(values.length === rows, `found ${values.length} groups or ids, expected ${rows}`)
    return values.filter((_, row) => mask[row] !== 0) as Values
  }
  const values = new Float32Array(kept * dModel)
  let at = 0
  for (let row = 0; row < rows;) {
    let end = row
    while (end < rows && mask[end] !== 0) end++
    values.set(from.subarray(row * dModel, end * dModel), at * dModel)
    at += end - row
    row = end + 1
  }
  return { values, groups: pick(batch.groups), sequence: pick(batch.sequence), ids: pick(batch.ids) }
}
