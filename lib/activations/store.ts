import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { PersonascopeError, requireArgument, toPersonascopeError } from '../core/errors.js'
import { runNative, throwIfAborted, type TaskOptions } from '../core/task.js'
import { fingerprint } from '../io/fingerprint.js'
import { readJson } from '../io/json.js'
import { SafetensorsFile } from '../io/safetensors.js'
import { TensorFile } from '../io/tensor-file.js'
import { parseHook, type Hook } from '../models/hook.js'
import { native } from '../native.js'
import { INDEX_FILE, indexSchema } from './format.js'
import { shuffledRows } from './order.js'
import { selectRows, type RowSelection } from './select.js'
import {
  countSequences,
  findActivations,
  openShard,
  verifyShard,
  type Shard,
  type ShardEntry,
} from './shard.js'

/** Rows of a store, in the order asked for. */
export interface StoreBatch {
  /** [rows, dModel], row-major, fp32. */
  values: Float32Array
  rows: number
  dModel: number
  /** Token id of each row; −1 where unknown. */
  tokens: Int32Array
  /** Number of the sequence of each row, over the whole store. */
  sequence: Uint32Array
  /** Prompt of each row. */
  groups: Uint32Array
  position: Uint32Array
  /** Number of each row, over the whole store. */
  ids: Float64Array
}

export interface BatchOptions extends TaskOptions {
  /** Rows a batch; the last one may have fewer. Default 1024. */
  batchSize?: number
  /** Rows that count. Default 'all'. */
  select?: RowSelection
  /** Begin with this row of the store; not with `shuffle`. Default 0. */
  firstRow?: number
  /** Seed of the order; left out, rows come in their own order. Not with `select`. */
  shuffle?: number
  /** Times the whole store is gone through, each time in another order. Default 1. */
  epochs?: number
  /** Leave out a last batch that is not full. Default false. */
  dropLast?: boolean
  /** Rows shuffled together, see order.ts. Default 2^22. */
  shuffleRows?: number
  /** Read into the same memory again and again: a batch's values last until the next one is asked for. Default false. */
  reuse?: boolean
}

interface StoreContents {
  shards: ShardEntry[]
  dModel: number
  sequences: number
  model: string
  hook: string
  metadata: Readonly<Record<string, string>>
  /** Changes when the content does. */
  fingerprint: string
}

const defaultShuffleRows = 1 << 22

/**
 * Captured activations, read from mapped files with memory for batches, not for the store. See format.ts for what is
 * read.
 */
export class ActivationStore {
  readonly path: string
  readonly #contents: StoreContents
  readonly #verify: boolean
  readonly #rows: number
  readonly #open = new Map<number, Shard>()
  readonly #verified = new Map<number, Promise<void>>()

  private constructor(path: string, contents: StoreContents, verify: boolean) {
    this.path = path
    this.#contents = contents
    this.#verify = verify
    const last = contents.shards.at(-1)
    this.#rows = last === undefined ? 0 : last.firstRow + last.rows
  }

  /**
   * Opens a store, or a file or folder of files that another program wrote (format.ts). Each shard is checked against
   * its SHA-256 when first read (`verify: false` checks sizes only). Errors: `ERR_NOT_FOUND`, `ERR_FORMAT` naming the
   * file; `ERR_INVALID_ARGUMENT` for one that is still being written unless `partial`.
   */
  static async open(
    path: string,
    options: { verify?: boolean; partial?: boolean } = {},
  ): Promise<ActivationStore> {
    const contents = await readContents(path, options.partial === true)
    return new ActivationStore(path, contents, options.verify ?? true)
  }

  get rows(): number {
    return this.#rows
  }
  get dModel(): number {
    return this.#contents.dModel
  }
  get sequences(): number {
    return this.#contents.sequences
  }
  get shards(): number {
    return this.#contents.shards.length
  }
  /** Undefined where it is not known, or not a place in the residual stream. */
  get hook(): Hook | undefined {
    try {
      return parseHook(this.#contents.hook)
    } catch {
      return undefined
    }
  }
  get model(): string {
    return this.#contents.model
  }
  get metadata(): Readonly<Record<string, string>> {
    return this.#contents.metadata
  }
  /** Tells contents apart: a digest over the index, or over names, sizes and times of files without one. */
  get fingerprint(): string {
    return this.#contents.fingerprint
  }

  /**
   * Goes through the rows in batches; the order depends on `shuffle` and `shuffleRows` only. While one batch is worked
   * on, the next is read and converted.
   */
  async *batches(options: BatchOptions = {}): AsyncGenerator<StoreBatch, void, undefined> {
    const { batchSize = 1024, epochs = 1, firstRow = 0, shuffle, select = 'all', reuse = false } = options
    requireArgument(
      Number.isSafeInteger(batchSize) && batchSize > 0,
      `batchSize: found ${batchSize}, expected a positive whole number`,
    )
    requireArgument(
      Number.isSafeInteger(firstRow) && firstRow >= 0 && firstRow <= this.rows,
      `firstRow: found ${firstRow}, expected 0 to ${this.rows}`,
    )
    requireArgument(
      shuffle === undefined || (firstRow === 0 && select === 'all'),
      'shuffle: cannot be combined with firstRow or select',
    )
    requireArgument(
      typeof select === 'string' || select.length === this.rows,
      `select: found a mask of ${select.length} rows, expected ${this.rows}`,
    )
    const rows = this.#batchRows(batchSize, options)
    const total = this.rows * epochs
    let done = 0
    // One is read while the other is worked on. Left to garbage collection, a dozen might wait for it.
    const rooms = [0, 1].map(() => new Float32Array(reuse ? Math.min(batchSize, total) * this.dModel : 0))
    const room = (values: number): Float32Array => {
      if (!reuse) return new Float32Array(values)
      rooms.reverse()
      return rooms[0]!.subarray(0, values)
    }
    const read = (): Promise<StoreBatch> | undefined => {
      const next = rows.next()
      if (next.done === true) return undefined
      const values = room(next.value.length * this.dModel)
      const reading = this.#read(next.value, values, shuffle === undefined, options)
      reading.catch(() => undefined) // told when its turn comes, or never if the caller stops before
      return reading
    }
    for (let reading = read(); reading !== undefined;) {
      throwIfAborted(options)
      const batch = await reading
      reading = read()
      yield batch
      done = shuffle === undefined ? (batch.ids.at(-1) ?? 0) + 1 : done + batch.rows
      options.onProgress?.({ done: Math.max(done, 0), total, unit: 'rows' })
    }
  }

  /** @internal Begins to check the first shard, which takes a while; what is wrong is told when it is read. */
  checkAhead(options: TaskOptions = {}): void {
    if (!this.#verify || this.shards === 0) return
    try {
      this.#check(0, this.#shard(0), options).catch(() => undefined)
    } catch {
      // Told when it is read.
    }
  }

  /** The rows with these numbers, in this order. */
  read(rows: ArrayLike<number>, options: TaskOptions = {}): Promise<StoreBatch> {
    return this.#read(Float64Array.from(rows), new Float32Array(rows.length * this.dModel), false, options)
  }

  /**
   * A digest of each prompt, by its number: of the token ids of its rows that are not the assistant's, or undefined
   * where they are not known. Two models saw the same prompts if they agree. Reads no activations.
   */
  async promptDigests(options: TaskOptions = {}): Promise<Map<number, string | undefined>> {
    const hashes = new Map<number, ReturnType<typeof createHash> | undefined>()
    for (const entry of this.#contents.shards) {
      throwIfAborted(options)
      const shard = openShard(entry, this.dModel) // and not kept: what is known of all rows may be large
      for (let i = 0; i + 1 < shard.offsets.length; i++) {
        const [begin, end] = [shard.offsets[i]!, shard.offsets[i + 1]!]
        if (begin === end) continue
        const prompt = shard.prompt[begin]!
        if (!shard.hasTokens) {
          hashes.set(prompt, undefined)
          continue
        }
        const rows = selectRows(
          {
            rows: end - begin,
            firstRow: 0,
            offsets: [0, end - begin],
            roles: shard.roles?.subarray(begin, end),
          },
          'prompt',
        )!
        const hash = hashes.get(prompt) ?? createHash('sha256')
        hash.update(Int32Array.from(rows, (row) => shard.tokens[begin + row]!))
        hashes.set(prompt, hash)
      }
      await new Promise(setImmediate) // many shards must not hold up the event loop
    }
    return new Map([...hashes].map(([prompt, hash]) => [prompt, hash?.digest('hex')]))
  }

  /** Row numbers of each batch. */
  *#batchRows(batchSize: number, options: BatchOptions): Generator<Float64Array> {
    const { epochs = 1, dropLast = false } = options
    let held: Float64Array[] = [] // rows that do not fill a batch yet
    let heldRows = 0
    for (let epoch = 0; epoch < epochs; epoch++) {
      for (const run of this.#order(epoch, options)) {
        held.push(run)
        heldRows += run.length
        if (heldRows < batchSize) continue
        const rows = held.length === 1 ? run : concatenate(held, heldRows)
        const full = heldRows - (heldRows % batchSize)
        for (let first = 0; first < full; first += batchSize) yield rows.subarray(first, first + batchSize)
        held = full === heldRows ? [] : [rows.slice(full)]
        heldRows -= full
      }
    }
    if (heldRows > 0 && !dropLast) yield concatenate(held, heldRows)
  }

  /** Row numbers of one epoch, in runs. */
  *#order(epoch: number, options: BatchOptions): Generator<Float64Array> {
    const { shuffle, shuffleRows = defaultShuffleRows, select = 'all', firstRow = 0 } = options
    if (shuffle !== undefined) {
      yield* shuffledRows(this.rows, shuffle, epoch, shuffleRows)
      return
    }
    const runRows = 1 << 16
    for (const [number, entry] of this.#contents.shards.entries()) {
      if (entry.firstRow + entry.rows <= firstRow) continue
      const chosen = select === 'all' ? undefined : selectRows(this.#shard(number), select)
      const count = chosen?.length ?? entry.rows
      for (let at = 0; at < count; at += runRows) {
        const length = Math.min(runRows, count - at)
        const run = Float64Array.from({ length }, (_, i) => entry.firstRow + (chosen?.[at + i] ?? at + i))
        yield firstRow > run[0]! ? run.filter((row) => row >= firstRow) : run
      }
    }
  }

  /** Reads rows into `values`. */
  async #read(
    rows: Float64Array,
    values: Float32Array,
    inOrder: boolean,
    options: TaskOptions,
  ): Promise<StoreBatch> {
    const { dModel } = this
    const batch: StoreBatch = {
      values,
      rows: rows.length,
      dModel,
      tokens: new Int32Array(rows.length),
      sequence: new Uint32Array(rows.length),
      groups: new Uint32Array(rows.length),
      position: new Uint32Array(rows.length),
      ids: rows.slice(),
    }
    const parts = new Map<number, { rows: number[]; places: number[] }>()
    for (let i = 0; i < rows.length; i++) {
      const number = this.#shardOf(rows[i]!)
      const part = parts.get(number) ?? { rows: [], places: [] }
      part.rows.push(rows[i]! - this.#contents.shards[number]!.firstRow)
      part.places.push(i)
      parts.set(number, part)
    }
    const readPart = async (number: number, part: { rows: number[]; places: number[] }): Promise<void> => {
      const shard = this.#shard(number)
      if (this.#verify) await this.#check(number, shard, options)
      const local = Uint32Array.from(part.rows)
      await runNative({ signal: options.signal }, 'rows', (job) =>
        native.readRows(
          shard.activations,
          local,
          Uint32Array.from(part.places),
          batch.values,
          inOrder ? shard.after : 'keep',
          job,
        ),
      )
      for (const [i, place] of part.places.entries()) {
        const row = local[i]!
        batch.tokens[place] = shard.tokens[row]!
        batch.sequence[place] = shard.sequence[row]!
        batch.groups[place] = shard.prompt[row]!
        batch.position[place] = shard.position[row]!
      }
    }
    await Promise.all([...parts].map(([number, part]) => readPart(number, part)))
    // Read from front to back, what lies behind is not wanted again.
    const behind = inOrder ? Math.max(...parts.keys()) : 0
    for (const number of this.#open.keys()) if (number < behind) this.#open.delete(number)
    return batch
  }

  #shardOf(row: number): number {
    requireArgument(
      Number.isSafeInteger(row) && row >= 0 && row < this.rows,
      `row ${row}: the store has ${this.rows}`,
    )
    const { shards } = this.#contents
    let low = 0
    let high = shards.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (shards[middle]!.firstRow <= row) low = middle
      else high = middle - 1
    }
    return low
  }

  #shard(number: number): Shard {
    let shard = this.#open.get(number)
    if (shard === undefined) {
      shard = openShard(this.#contents.shards[number]!, this.dModel)
      this.#open.set(number, shard)
    }
    return shard
  }

  #check(number: number, shard: Shard, options: TaskOptions): Promise<void> {
    let checking = this.#verified.get(number)
    if (checking === undefined) {
      checking = verifyShard(shard, options)
      this.#verified.set(number, checking)
      checking.catch(() => this.#verified.delete(number))
    }
    return checking
  }
}

const { compare } = new Intl.Collator('en', { numeric: true })
/** Names as people number them: part-2 before part-10. */
const byNumber = (a: string, b: string): number => compare(a, b) || (a < b ? -1 : 1)

async function readContents(path: string, partial: boolean): Promise<StoreContents> {
  const about = await stat(path).catch((error: unknown) => {
    throw toPersonascopeError(error, path)
  })
  if (!about.isDirectory()) return readForeign([path])
  const names = (await readdir(path)).toSorted(byNumber)
  if (names.includes(INDEX_FILE)) return readIndex(path, partial)
  const files = names.filter((name) => /\.(safetensors|npy)$/.test(name) && !name.startsWith('.'))
  if (files.length === 0)
    throw new PersonascopeError(
      'ERR_FORMAT',
      `${path}: found neither ${INDEX_FILE} nor .safetensors or .npy files, expected an activation store`,
    )
  return readForeign(files.map((name) => join(path, name)))
}

async function readIndex(folder: string, partial: boolean): Promise<StoreContents> {
  const path = join(folder, INDEX_FILE)
  const index = await readJson(path, indexSchema)
  requireArgument(
    index.complete || partial,
    `${folder}: the activation store is not complete (${index.rows} rows so far)`,
    'finish it with ActivationStoreWriter.resume, or open it with partial: true',
  )
  const shards: ShardEntry[] = []
  let firstRow = 0
  for (const { file, rows, sha256 } of index.shards) {
    shards.push({ path: join(folder, file), rows, firstRow, firstSequence: 0, sha256 })
    firstRow += rows
  }
  if (firstRow !== index.rows)
    throw new PersonascopeError(
      'ERR_FORMAT',
      `${path}: rows: found ${index.rows}, but its shards have ${firstRow}`,
    )
  const { dModel, sequences, model, hook, metadata } = index
  return { shards, dModel, sequences, model, hook, metadata, fingerprint: digest(JSON.stringify(index)) }
}

async function readForeign(paths: readonly string[]): Promise<StoreContents> {
  const shards: ShardEntry[] = []
  const files: string[] = []
  let contents: Pick<StoreContents, 'dModel' | 'model' | 'hook' | 'metadata'> | undefined
  let firstRow = 0
  let firstSequence = 0
  for (const path of paths) {
    const { rows, dModel, sequences, metadata, bare } = await readHeader(path)
    contents ??= { dModel, model: metadata['model'] ?? '', hook: metadata['hook'] ?? '', metadata }
    if (dModel !== contents.dModel)
      throw new PersonascopeError(
        'ERR_FORMAT',
        `${path}: rows of ${dModel} values, expected ${contents.dModel} as in ${basename(paths[0]!)}`,
      )
    shards.push({ path, rows, firstRow, firstSequence, bare })
    firstRow += rows
    firstSequence += sequences
    files.push(await fingerprint(path))
  }
  return { ...contents!, shards, sequences: firstSequence, fingerprint: digest(files.join('\n')) }
}

/** What one file of another program holds; activations are not touched. */
async function readHeader(path: string): Promise<{
  rows: number
  dModel: number
  sequences: number
  metadata: Readonly<Record<string, string>>
  bare: ShardEntry['bare']
}> {
  const opened = await TensorFile.open(path)
  if (opened.format === 'safetensors') {
    const file = SafetensorsFile.open(path)
    const [rows, dModel] = findActivations(file).shape as [number, number]
    return { rows, dModel, sequences: countSequences(file, rows), metadata: file.metadata, bare: undefined }
  }
  const activations = findActivations(opened)
  const [rows, dModel] = activations.shape as [number, number]
  return {
    rows,
    dModel,
    sequences: rows,
    metadata: {},
    bare: { activations, mapped: opened.format === 'npy' },
  }
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex')
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
