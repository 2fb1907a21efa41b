import { join } from 'node:path'
import { PersonascopeError, requireArgument } from '../core/errors.js'
import { Random } from '../core/random.js'
import { throwIfAborted, type TaskOptions } from '../core/task.js'
import { readJson } from '../io/json.js'
import { SafetensorsFile } from '../io/safetensors.js'
import { parseHook, type Hook } from '../models/hook.js'
import { INDEX_FILE, indexSchema, type StoreIndex } from './format.js'

/** Rows of a store, in the order asked for. */
export interface StoreBatch {
  /** [rows, dModel], row-major. In order and within one shard a view of the mapped file: do not write to it. */
  values: Float32Array
  rows: number
  dModel: number
  /** Token id of each row. */
  tokens: Int32Array
  /** Number of the sequence of each row, over the whole store. */
  sequence: Uint32Array
  position: Uint32Array
  /** Number of each row, over the whole store. */
  ids: Float64Array
}

export interface BatchOptions extends TaskOptions {
  /** Rows a batch; the last one may have fewer. Default 1024. */
  batchSize?: number
  /** Seed of the order; left out, rows come in their own order. */
  shuffle?: number
  /** Times the whole store is gone through, each time in another order. Default 1. */
  epochs?: number
  /** Leave out a last batch that is not full. Default false. */
  dropLast?: boolean
  /**
   * Rows shuffled together. A store of no more rows is shuffled exactly; a larger one in two levels: blocks of 256
   * neighbouring rows over the whole store, then rows over this many. Bounds memory and scattered reads.
   * Default 2^22.
   */
  shuffleRows?: number
}

interface Shard {
  file: SafetensorsFile
  firstRow: number
  rows: number
  activations: Float32Array
  tokens: Int32Array
  position: Uint32Array
  /** Expanded from offsets: the sequence of each row. */
  sequence: Uint32Array
}

const blockRows = 256

/** A folder of captured activations, mapped: memory is taken for batches, not for the store. See format.ts. */
export class ActivationStore {
  readonly folder: string
  readonly #index: StoreIndex
  readonly #verify: boolean
  readonly #hook: Hook
  readonly #firstRows: number[] = []
  readonly #shards = new Map<number, Promise<Shard>>()

  private constructor(folder: string, index: StoreIndex, verify: boolean) {
    this.folder = folder
    this.#index = index
    this.#verify = verify
    this.#hook = parseHook(index.hook)
    let row = 0
    for (const shard of index.shards) {
      this.#firstRows.push(row)
      row += shard.rows
    }
    if (row !== index.rows)
      throw new PersonascopeError(
        'ERR_FORMAT',
        `${join(folder, INDEX_FILE)}: rows: found ${index.rows}, but its shards have ${row}`,
      )
  }

  /**
   * Opens a store. Each shard is checked against its SHA-256 when first read (`verify: false` checks sizes only).
   * Errors: `ERR_NOT_FOUND`, `ERR_FORMAT` naming the file; `ERR_INVALID_ARGUMENT` for one that is still being
   * written unless `partial`.
   */
  static async open(
    folder: string,
    options: { verify?: boolean; partial?: boolean } = {},
  ): Promise<ActivationStore> {
    const index = await readJson(join(folder, INDEX_FILE), indexSchema)
    requireArgument(
      index.complete || options.partial === true,
      `${folder}: the activation store is not complete (${index.rows} rows so far)`,
      'finish it with ActivationStoreWriter.resume, or open it with partial: true',
    )
    return new ActivationStore(folder, index, options.verify ?? true)
  }

  get rows(): number {
    return this.#index.rows
  }
  get dModel(): number {
    return this.#index.dModel
  }
  get sequences(): number {
    return this.#index.sequences
  }
  get hook(): Hook {
    return this.#hook
  }
  get model(): string {
    return this.#index.model
  }
  get metadata(): Readonly<Record<string, string>> {
    return this.#index.metadata
  }

  /** Goes through the rows in batches; the order depends on `shuffle` and `shuffleRows` only. */
  async *batches(options: BatchOptions = {}): AsyncGenerator<StoreBatch, void, undefined> {
    const { batchSize = 1024, epochs = 1, dropLast = false } = options
    requireArgument(
      Number.isSafeInteger(batchSize) && batchSize > 0,
      `batchSize: found ${batchSize}, expected a positive whole number`,
    )
    const total = this.rows * epochs
    let done = 0
    let held: Float64Array[] = [] // row numbers that do not fill a batch yet
    let heldRows = 0
    for (let epoch = 0; epoch < epochs; epoch++) {
      for (const run of this.#order(epoch, options)) {
        held.push(run)
        heldRows += run.length
        if (heldRows < batchSize) continue
        const rows = held.length === 1 ? run : concatenate(held, heldRows)
        const full = heldRows - (heldRows % batchSize)
        for (let first = 0; first < full; first += batchSize) {
          throwIfAborted(options)
          yield await this.read(rows.subarray(first, first + batchSize))
          done += batchSize
          options.onProgress?.({ done, total, unit: 'rows' })
        }
        held = full === heldRows ? [] : [rows.slice(full)]
        heldRows -= full
      }
    }
    if (heldRows > 0 && !dropLast) {
      yield await this.read(concatenate(held, heldRows))
      options.onProgress?.({ done: done + heldRows, total, unit: 'rows' })
    }
  }

  /** The rows with these numbers, in this order. */
  async read(rows: ArrayLike<number>): Promise<StoreBatch> {
    const { dModel } = this.#index
    const first = rows[0] ?? 0
    const last = rows[rows.length - 1] ?? 0
    if (rows.length > 0 && last - first === rows.length - 1) {
      const inOrder = await this.#readRun(rows, first)
      if (inOrder) return inOrder
    }
    const batch: StoreBatch = {
      values: new Float32Array(rows.length * dModel),
      rows: rows.length,
      dModel,
      tokens: new Int32Array(rows.length),
      sequence: new Uint32Array(rows.length),
      position: new Uint32Array(rows.length),
      ids: Float64Array.from(rows),
    }
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i] as number
      const number = this.#shardOf(row)
      // Awaiting only what is not open yet keeps this loop free of needless turns of the event loop.
      const shard = this.#open.get(number) ?? (await this.#shard(number))
      const local = row - shard.firstRow
      batch.values.set(shard.activations.subarray(local * dModel, (local + 1) * dModel), i * dModel)
      batch.tokens[i] = shard.tokens[local] as number
      batch.sequence[i] = shard.sequence[local] as number
      batch.position[i] = shard.position[local] as number
    }
    return batch
  }

  /** Rows in their own order within one shard: views instead of copies. Undefined if they are not. */
  async #readRun(rows: ArrayLike<number>, first: number): Promise<StoreBatch | undefined> {
    for (let i = 1; i < rows.length; i++) if (rows[i] !== first + i) return undefined
    const shard = await this.#shard(this.#shardOf(first))
    const begin = first - shard.firstRow
    const end = begin + rows.length
    if (end > shard.rows) return undefined
    return {
      values: shard.activations.subarray(begin * this.dModel, end * this.dModel),
      rows: rows.length,
      dModel: this.dModel,
      tokens: shard.tokens.subarray(begin, end),
      sequence: shard.sequence.subarray(begin, end),
      position: shard.position.subarray(begin, end),
      ids: Float64Array.from(rows),
    }
  }

  /** Row numbers of one epoch, in runs. */
  *#order(epoch: number, options: BatchOptions): Generator<Float64Array> {
    const { shuffle, shuffleRows = 1 << 22 } = options
    const blocks = Math.ceil(this.rows / blockRows)
    const rowsOfBlock = (block: number): number => Math.min(blockRows, this.rows - block * blockRows)
    if (shuffle === undefined) {
      for (let block = 0; block < blocks; block++)
        yield Float64Array.from({ length: rowsOfBlock(block) }, (_, i) => block * blockRows + i)
      return
    }
    requireArgument(
      Number.isSafeInteger(shuffleRows) && shuffleRows > 0,
      `shuffleRows: found ${shuffleRows}, expected a positive whole number`,
    )
    const random = new Random(shuffle).fork(`epoch ${epoch}`)
    const order = Float64Array.from({ length: blocks }, (_, i) => i)
    shuffleInPlace(order, random)
    for (let at = 0; at < blocks;) {
      let end = at
      let rows = 0
      while (end < blocks && (end === at || rows + rowsOfBlock(order[end] as number) <= shuffleRows))
        rows += rowsOfBlock(order[end++] as number)
      const run = new Float64Array(rows)
      let filled = 0
      for (; at < end; at++) {
        const block = order[at] as number
        for (let i = 0; i < rowsOfBlock(block); i++) run[filled++] = block * blockRows + i
      }
      shuffleInPlace(run, random)
      yield run
    }
  }

  #shardOf(row: number): number {
    if (!(Number.isSafeInteger(row) && row >= 0 && row < this.rows))
      throw new PersonascopeError('ERR_INVALID_ARGUMENT', `row ${row} of a store of ${this.rows}`)
    let low = 0
    let high = this.#firstRows.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((this.#firstRows[middle] as number) <= row) low = middle
      else high = middle - 1
    }
    return low
  }

  readonly #open = new Map<number, Shard>()

  #shard(number: number): Promise<Shard> {
    let shard = this.#shards.get(number)
    if (shard === undefined) {
      shard = this.#openShard(number)
      this.#shards.set(number, shard)
    }
    return shard
  }

  async #openShard(number: number): Promise<Shard> {
    const entry = this.#index.shards[number]
    if (entry === undefined) throw new PersonascopeError('ERR_INTERNAL', `no shard ${number}`)
    const { rows, sha256 } = entry
    const path = join(this.folder, entry.file)
    const file = SafetensorsFile.open(path)
    const activations = file.require('activations', [rows, this.dModel])
    if (activations.dtype !== 'F32')
      throw new PersonascopeError(
        'ERR_FORMAT',
        `${path}: tensor 'activations' is of ${activations.dtype}, expected F32`,
      )
    if (this.#verify && (await file.sha256()) !== sha256)
      throw new PersonascopeError('ERR_FORMAT', `${path}: its SHA-256 is not the one in ${INDEX_FILE}`, {
        hint: 'the file was changed or damaged; capture the activations again',
      })
    const shard: Shard = {
      file,
      firstRow: this.#firstRows[number] as number,
      rows,
      activations: file.view('activations') as Float32Array,
      tokens: file.i32('tokens', [rows]),
      position: file.u32('position', [rows]),
      sequence: expandOffsets(path, file.u32('sequences'), file.u32('offsets'), rows),
    }
    this.#open.set(number, shard)
    return shard
  }
}

function expandOffsets(
  path: string,
  sequences: Uint32Array,
  offsets: Uint32Array,
  rows: number,
): Uint32Array {
  const good =
    offsets.length === sequences.length + 1 &&
    offsets[0] === 0 &&
    offsets[sequences.length] === rows &&
    offsets.every((offset, i) => i === 0 || offset >= (offsets[i - 1] as number))
  if (!good)
    throw new PersonascopeError('ERR_FORMAT', `${path}: tensor 'offsets' does not divide its ${rows} rows`)
  const expanded = new Uint32Array(rows)
  for (let i = 0; i < sequences.length; i++)
    expanded.fill(sequences[i] as number, offsets[i] as number, offsets[i + 1] as number)
  return expanded
}

/** Fisher and Yates. */
function shuffleInPlace(values: Float64Array, random: Random): void {
  for (let i = values.length - 1; i > 0; i--) {
    const j = random.integer(i + 1)
    const value = values[i] as number
    values[i] = values[j] as number
    values[j] = value
  }
}

function concatenate(parts: readonly Float64Array[], length: number): Float64Array {
  const all = new Float64Array(length)
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}
