import { requireArgument } from '../core/errors.js'
import { callNative, runNative, throwIfAborted, type TaskOptions } from '../core/task.js'
import { native, type NativeLatentStats } from '../native.js'
import type { SparseCodes } from '../sae/codes.js'
import type { Sae } from '../sae/sae.js'

/** Activations to collect statistics over; CapturedActivations and the batches of an ActivationStore fit. */
export interface ActivationBatch {
  /** [rows, dModel], row-major. */
  values: Float32Array
  /** Prompt or document of each row. */
  groups?: Uint32Array | undefined
  /** Taken for `groups` where those are left out. */
  sequence?: Uint32Array | undefined
  /** A number of each row, kept with examples. Default: the running number of the row. */
  ids?: Float64Array | undefined
}

export interface LatentStatsOptions {
  /** Rows of largest value kept a latent, at most 4096. Default 0. */
  examples?: number
  /** Of each group only its best row is kept as an example. Default false. */
  distinctGroups?: boolean
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
 * the sums per group. fp64, in the order of the rows: neither batch split nor threads change a bit.
 */
export class LatentStats {
  readonly latents: number
  readonly options: Readonly<Required<LatentStatsOptions>>
  readonly #native: NativeLatentStats

  constructor(latents: number, options: LatentStatsOptions = {}) {
    this.latents = latents
    this.options = {
      examples: options.examples ?? 0,
      distinctGroups: options.distinctGroups ?? false,
      perGroup: options.perGroup ?? false,
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
    for await (const batch of 'values' in batches && batches.values instanceof Float32Array
      ? [batches as ActivationBatch]
      : (batches as AsyncIterable<ActivationBatch> | Iterable<ActivationBatch>)) {
      throwIfAborted(options)
      await stats.addActivations(sae, batch, { signal })
      rows += batch.values.length / sae.dModel
      onProgress?.({ done: rows, total: 0, unit: 'tokens' })
    }
    return stats
  }

  /** Encodes a batch and adds it. Where it fails or is aborted, rows of the batch may have been added. */
  async addActivations(sae: Sae, batch: ActivationBatch, options?: TaskOptions): Promise<void> {
    const groups = batch.groups ?? batch.sequence
    await runNative(options, 'tokens', (job) =>
      sae.native.encodeInto(this.#native, batch.values, groups, batch.ids, job),
    )
  }

  /** Adds codes at hand. Where it fails nothing is added. */
  async add(
    codes: SparseCodes,
    about: { groups?: Uint32Array | undefined; ids?: Float64Array | undefined } = {},
    options?: TaskOptions,
  ): Promise<void> {
    await runNative(options, 'tokens', (job) => this.#native.add(codes, about.groups, about.ids, job))
  }

  /** New statistics over the rows of all; they must have the same latents and options. */
  static merge(first: LatentStats, ...others: LatentStats[]): LatentStats {
    const merged = new LatentStats(first.latents, first.options)
    for (const stats of [first, ...others]) callNative(() => merged.#native.merge(stats.#native))
    return merged
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
