import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { PersonascopeError, requireArgument } from '../core/errors.js'
import type { TaskOptions } from '../core/task.js'
import { removePartials } from '../io/atomic.js'
import { readJson, writeJson } from '../io/json.js'
import { writeSafetensors } from '../io/safetensors.js'
import { hookName, type Hook } from '../models/hook.js'
import type { CapturedActivations } from '../models/language-model.js'
import { native } from '../native.js'
import {
  INDEX_FILE,
  indexSchema,
  STORE_FORMAT,
  STORE_VERSION,
  type StoredDtype,
  type StoreIndex,
} from './format.js'

export interface ActivationStoreOptions {
  dModel: number
  hook: Hook
  /** Element type on disk. Default 'F32'. */
  dtype?: StoredDtype
  /** Name or path of the model the activations come from. */
  model?: string
  /** Kept in the index, for people. */
  metadata?: Readonly<Record<string, string>>
}

export interface ShardOptions {
  /** Activations are gathered in memory up to this size before they are written. Default 256 MiB. */
  shardBytes?: number
}

/** Rows to be stored: what `LanguageModel.capture` gives fits as it is. */
export type StoredActivations = Pick<
  CapturedActivations,
  'rows' | 'dModel' | 'sequence' | 'position' | 'tokens'
> & {
  /** [rows, dModel]; the bits as Uint16Array for a store of F16 or BF16. */
  values: Float32Array | Uint16Array
  /** [rows]: who speaks, codes of ROLES. With every batch or with none. */
  roles?: Uint8Array | undefined
  /** Prompt of each sequence of the batch, by its number. With every batch or with none; default: the sequence's number. */
  prompts?: Uint32Array | undefined
}

/**
 * Writes an activation store, shard by shard. Killed at any time, it leaves whole shards only, and
 * {@link ActivationStoreWriter.resume} goes on after the last of them: capture again from sequence `sequences` on,
 * in the same batches, and the store becomes the same, byte for byte.
 */
export class ActivationStoreWriter {
  readonly folder: string
  readonly #shardBytes: number
  #index: StoreIndex
  /** Appended, not yet written; `sequence` counts over the whole store. */
  #pending: PendingBatch[] = []
  #pendingRows = 0
  #pendingSequences = 0

  private constructor(folder: string, index: StoreIndex, options: ShardOptions) {
    this.folder = folder
    this.#index = index
    this.#shardBytes = options.shardBytes ?? 1 << 28
    requireArgument(
      this.#shardBytes > 0,
      `shardBytes: found ${this.#shardBytes}, expected a positive number of bytes`,
    )
  }

  /** Starts a store in a folder that holds none; errors: `ERR_INVALID_ARGUMENT`, `ERR_IO`. */
  static async create(
    folder: string,
    options: ActivationStoreOptions & ShardOptions,
  ): Promise<ActivationStoreWriter> {
    requireArgument(
      Number.isSafeInteger(options.dModel) && options.dModel > 0,
      `dModel: found ${options.dModel}, expected a positive whole number`,
    )
    const there = await readdir(folder).catch((): string[] => [])
    requireArgument(
      !there.includes(INDEX_FILE),
      `${folder} already holds an activation store`,
      'resume it, or choose another folder',
    )
    await mkdir(folder, { recursive: true }).catch(() => undefined) // writing the index tells what is wrong
    const writer = new ActivationStoreWriter(
      folder,
      {
        format: STORE_FORMAT,
        version: STORE_VERSION,
        model: options.model ?? '',
        hook: hookName(options.hook),
        dModel: options.dModel,
        dtype: options.dtype ?? 'F32',
        sequences: 0,
        rows: 0,
        complete: false,
        shards: [],
        metadata: { ...options.metadata },
      },
      options,
    )
    await writer.#writeIndex()
    return writer
  }

  /** Goes on with an unfinished (or finished) store. */
  static async resume(folder: string, options: ShardOptions = {}): Promise<ActivationStoreWriter> {
    const index = await readJson(join(folder, INDEX_FILE), indexSchema)
    await removePartials(folder)
    return new ActivationStoreWriter(folder, { ...index, complete: false }, options)
  }

  /** Sequences that are safely stored; a resumed capture starts at this one. */
  get sequences(): number {
    return this.#index.sequences
  }

  /** Rows that are safely stored. */
  get rows(): number {
    return this.#index.rows
  }

  /**
   * Appends whole sequences. `sequence` counts from 0 within the batch; `sequences` is how many the batch has
   * (default: the highest number + 1; say it where the last ones may have no rows). Values are copied.
   *
   * Errors: `ERR_NON_FINITE` naming sequence, position and component; `ERR_INVALID_ARGUMENT`; `ERR_IO`.
   */
  async append(batch: StoredActivations, options: TaskOptions & { sequences?: number } = {}): Promise<void> {
    const sequences = this.#check(batch, options.sequences)
    const base = this.#index.sequences + this.#pendingSequences
    this.#pending.push({
      values: batch.values.slice(),
      rows: batch.rows,
      dModel: batch.dModel,
      sequence: batch.sequence.map((sequence) => base + sequence),
      position: batch.position.slice(),
      tokens: batch.tokens.slice(),
      roles: batch.roles?.slice(),
      prompts:
        batch.prompts === undefined ? undefined : batch.sequence.map((sequence) => batch.prompts![sequence]!),
    })
    this.#pendingRows += batch.rows
    this.#pendingSequences += sequences
    if (this.#pendingRows * this.#index.dModel * bytesOf[this.#index.dtype] >= this.#shardBytes)
      await this.#flush(options)
  }

  /** Writes what is pending and marks the store complete. */
  async close(options: TaskOptions = {}): Promise<void> {
    await this.#flush(options)
    this.#index = { ...this.#index, complete: true }
    await this.#writeIndex()
  }

  #check(batch: StoredActivations, given: number | undefined): number {
    const { dModel, dtype } = this.#index
    const { rows, values } = batch
    requireArgument(
      values instanceof (dtype === 'F32' ? Float32Array : Uint16Array),
      `values: found ${values.constructor.name}, expected ${dtype === 'F32' ? 'Float32Array' : 'Uint16Array'} for a store of ${dtype}`,
    )
    requireArgument(
      batch.dModel === dModel,
      `activations of width ${batch.dModel}, expected ${dModel} as the store's`,
    )
    for (const [name, found, expected] of [
      ['values', values.length, rows * dModel],
      ['sequence', batch.sequence.length, rows],
      ['position', batch.position.length, rows],
      ['tokens', batch.tokens.length, rows],
    ] as const)
      requireArgument(found === expected, `${name}: found ${found} values, expected ${expected}`)
    const rising = batch.sequence.every((sequence, i) => i === 0 || sequence >= (batch.sequence[i - 1] ?? 0))
    requireArgument(rising, 'sequence: expected the rows of each sequence together, in rising order')
    const highest = rows === 0 ? 0 : (batch.sequence[rows - 1] ?? 0) + 1
    const sequences = given ?? highest
    requireArgument(
      Number.isSafeInteger(sequences) && sequences >= highest,
      `sequences: found ${sequences}, but rows of ${highest} sequences`,
    )
    const total = this.#index.sequences + this.#pendingSequences + sequences
    requireArgument(total <= 2 ** 32, `a store holds at most 2^32 sequences, found ${total}`)
    for (const [name, found, expected] of [
      ['roles', batch.roles?.length, rows],
      ['prompts', batch.prompts?.length, sequences],
    ] as const) {
      requireArgument(
        found === undefined || found === expected,
        `${name}: found ${found} values, expected ${expected}`,
      )
      const [earlier] = this.#pending
      requireArgument(
        earlier === undefined || (earlier[name] === undefined) === (found === undefined),
        `${name}: expected with every batch or with none`,
      )
    }
    const bad = firstNonFinite(values, dtype)
    if (bad >= 0) {
      const row = Math.floor(bad / dModel)
      throw new PersonascopeError(
        'ERR_NON_FINITE',
        `activation ${values instanceof Float32Array ? values[bad] : 'NaN or infinity'} in component ${bad % dModel} of sequence ${this.#index.sequences + this.#pendingSequences + (batch.sequence[row] ?? 0)}, position ${batch.position[row]}`,
      )
    }
    return sequences
  }

  async #flush(options: TaskOptions): Promise<void> {
    if (this.#pendingSequences === 0 && this.#pendingRows === 0) return
    const pending = this.#pending
    const rows = this.#pendingRows
    const { dModel, shards, dtype } = this.#index
    const sequences: number[] = []
    const offsets: number[] = []
    const prompts: number[] = []
    let row = 0
    for (const batch of pending)
      for (const [i, sequence] of batch.sequence.entries()) {
        if (sequences.at(-1) !== sequence) {
          sequences.push(sequence)
          offsets.push(row)
          if (batch.prompts !== undefined) prompts.push(batch.prompts[i]!)
        }
        row++
      }
    offsets.push(rows)
    const file = `shard-${String(shards.length).padStart(5, '0')}.safetensors`
    const written =
      rows === 0
        ? undefined
        : await writeSafetensors(
            join(this.folder, file),
            [
              { name: 'activations', dtype, shape: [rows, dModel], data: pieces(pending, 'values') },
              { name: 'tokens', dtype: 'I32', shape: [rows], data: pieces(pending, 'tokens') },
              { name: 'position', dtype: 'U32', shape: [rows], data: pieces(pending, 'position') },
              {
                name: 'sequences',
                dtype: 'U32',
                shape: [sequences.length],
                data: Uint32Array.from(sequences),
              },
              { name: 'offsets', dtype: 'U32', shape: [offsets.length], data: Uint32Array.from(offsets) },
              ...(prompts.length === 0
                ? []
                : [
                    {
                      name: 'prompts',
                      dtype: 'U32' as const,
                      shape: [prompts.length],
                      data: Uint32Array.from(prompts),
                    },
                  ]),
              ...(pending[0]?.roles === undefined
                ? []
                : [
                    {
                      name: 'roles',
                      dtype: 'U8' as const,
                      shape: [rows],
                      data: () => pending.map((batch) => batch.roles!),
                    },
                  ]),
            ],
            {
              metadata: { format: STORE_FORMAT, version: String(STORE_VERSION) },
              digest: 'file',
              signal: options.signal,
            },
          )
    this.#index = {
      ...this.#index,
      rows: this.#index.rows + rows,
      sequences: this.#index.sequences + this.#pendingSequences,
      shards: written === undefined ? shards : [...shards, { file, rows, ...written }],
    }
    this.#pending = []
    this.#pendingRows = 0
    this.#pendingSequences = 0
    await this.#writeIndex()
  }

  async #writeIndex(): Promise<void> {
    await writeJson(join(this.folder, INDEX_FILE), this.#index)
  }
}

/** What was appended; `sequence` counts over the whole store, `prompts` is expanded over rows. */
type PendingBatch = StoredActivations

const bytesOf: Readonly<Record<StoredDtype, number>> = { F32: 4, F16: 2, BF16: 2 }

/** Place of the first NaN or infinity, or −1. */
function firstNonFinite(values: Float32Array | Uint16Array, dtype: StoredDtype): number {
  if (values instanceof Float32Array) return native.firstNonFinite(values)
  const exponent = dtype === 'F16' ? 0x7c00 : 0x7f80
  return values.findIndex((bits) => (bits & exponent) === exponent)
}

function pieces<Key extends 'values' | 'tokens' | 'position'>(
  batches: readonly PendingBatch[],
  key: Key,
): () => Iterable<PendingBatch[Key]> {
  return () => batches.map((batch) => batch[key])
}
