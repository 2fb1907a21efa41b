/**
 * Codes of a whole store in one safetensors file:
 *
 *   indices  U32, values F32  [rows, k], or [pairs] with
 *   offsets  U64 [rows + 1]   where the count varies from row to row
 *   rows     U64 [rows]       their numbers in the store, where not all of its rows were encoded
 *   input_mean, input_scale   F32 [rows], where the SAE normalises its inputs
 *
 * Until it is whole, its parts lie beside it in a folder `….parts`.
 */
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { PersonascopeError, toPersonascopeError } from '../core/errors.js'
import type { TaskOptions } from '../core/task.js'
import { removePartials } from '../io/atomic.js'
import { readJson, writeJson } from '../io/json.js'
import { SafetensorsFile, writeSafetensors, type TensorArray, type TensorSource } from '../io/safetensors.js'
import { requireIntact } from '../io/content-digest.js'
import type { SparseCodes } from '../sae/codes.js'
import type { Sae } from '../sae/sae.js'
import { defaultBatchSize, requireFit, requireRows } from './fit.js'
import type { RowSelection } from './select.js'
import type { ActivationStore } from './store.js'

export const CODES_FORMAT = 'personascope-codes'
const VERSION = '2'
const JOB_FILE = 'job.json'
const JOB_VERSION = 2

export interface EncodeStoreOptions extends TaskOptions {
  /** Rows that are encoded. Default 'all'. */
  select?: RowSelection
  /** Rows encoded together. Default: 16 MiB of activations. */
  batchSize?: number
  /** Go on with the parts that a stopped run left. Default false: begin again. */
  resume?: boolean
  /** Says what encodes, e.g. a fingerprint of the SAE; parts made by something else are refused. */
  identity?: string
  /** A part is written at least this often. Default 60. */
  partSeconds?: number
}

export interface EncodedFile {
  rows: number
  /** (latent, value) pairs. */
  pairs: number
  /** Pairs a row, where all rows have as many. */
  k: number | undefined
}

interface Part {
  path: string
  /** Row of the store after its last. */
  until: number
  rows: number
  pairs: number
}

const jobSchema = z.strictObject({
  format: z.literal('personascope-encode-job'),
  version: z.literal(JOB_VERSION),
  identity: z.string(),
  store: z.string(),
})

/**
 * Encodes the rows of a store into one file, with memory for batches. The file is whole or absent; stopped at any time, the
 * same call with `resume` goes on and comes to the same bytes. Progress counts rows of the store.
 */
export async function encodeStore(
  sae: Sae,
  store: ActivationStore,
  out: string,
  options: EncodeStoreOptions = {},
): Promise<EncodedFile> {
  requireFit(sae, store)
  const {
    select = 'all',
    batchSize = defaultBatchSize(sae.dModel),
    signal,
    onProgress,
    identity = '',
  } = options
  const folder = `${out}.parts`
  const job = {
    format: 'personascope-encode-job',
    version: JOB_VERSION,
    identity: JSON.stringify([identity, sae.latents, typeof select === 'string' ? select : 'mask']),
    store: store.fingerprint,
  } as const
  const parts = options.resume === true ? await readParts(folder, job) : []
  if (parts.length === 0) {
    await rm(folder, { recursive: true, force: true })
    await mkdir(folder, { recursive: true }).catch(() => undefined) // writing the job tells what is wrong
    await writeJson(join(folder, JOB_FILE), job)
  }
  const bufferedPairs = 1 << 23
  let pending: EncodedRows[] = []
  let pendingPairs = 0
  let begun = performance.now()
  let until = parts.at(-1)?.until ?? 0
  const flush = async (task: TaskOptions): Promise<void> => {
    if (pending.length === 0) return
    parts.push(await writePart(folder, pending, until, task))
    pending = []
    pendingPairs = 0
    begun = performance.now()
  }
  const report = () => onProgress?.({ done: until, total: store.rows, unit: 'tokens' })
  report()
  try {
    for await (const batch of store.batches({ batchSize, select, firstRow: until, signal, reuse: true })) {
      const codes = await sae.encode(batch.values, { signal })
      pending.push({ codes, rows: select === 'all' ? undefined : BigUint64Array.from(batch.ids, BigInt) })
      pendingPairs += codes.indices.length
      until = batch.ids[batch.rows - 1]! + 1
      report()
      if (pendingPairs >= bufferedPairs || performance.now() - begun >= (options.partSeconds ?? 60) * 1000)
        await flush({ signal })
    }
    await flush({ signal })
    requireRows(
      store,
      select,
      parts.reduce((sum, part) => sum + part.rows, 0),
    )
  } catch (error) {
    // Stopped by the user, nothing that was done is lost.
    if (signal?.aborted === true) await flush({}).catch(() => undefined)
    if (parts.length === 0) await rm(folder, { recursive: true, force: true })
    throw error
  }
  onProgress?.({ done: store.rows, total: store.rows, unit: 'tokens' })
  const written = await joinParts(sae, out, parts, { signal })
  await rm(folder, { recursive: true, force: true })
  return written
}

async function readParts(folder: string, job: z.infer<typeof jobSchema>): Promise<Part[]> {
  const names = await readdir(folder).catch((): string[] => [])
  if (!names.includes(JOB_FILE)) return []
  const found = await readJson(join(folder, JOB_FILE), jobSchema)
  if (found.identity !== job.identity || found.store !== job.store)
    throw new PersonascopeError(
      'ERR_INVALID_ARGUMENT',
      `${folder}: parts of other inputs or options, they cannot be resumed with these`,
      { hint: 'run without resuming to begin again' },
    )
  await removePartials(folder)
  const parts: Part[] = []
  for (const name of names.filter((one) => one.startsWith('part-')).toSorted()) {
    const path = join(folder, name)
    const file = SafetensorsFile.open(path)
    await requireIntact(file, 'run without resuming to begin again')
    parts.push({
      path,
      until: Number(file.metadata['until']),
      rows: file.require('counts').shape[0] ?? 0,
      pairs: file.require('indices').shape[0] ?? 0,
    })
  }
  return parts
}

interface EncodedRows {
  codes: SparseCodes
  /** Their numbers in the store, where not all are encoded. */
  rows: BigUint64Array | undefined
}

async function writePart(
  folder: string,
  encoded: readonly EncodedRows[],
  until: number,
  task: TaskOptions,
): Promise<Part> {
  const codes = encoded.map((one) => one.codes)
  const rows = codes.reduce((sum, one) => sum + one.rows, 0)
  const pairs = codes.reduce((sum, one) => sum + one.indices.length, 0)
  const counts = new Uint32Array(rows)
  let row = 0
  for (const one of codes)
    for (let i = 0; i < one.rows; i++) counts[row++] = one.offsets[i + 1]! - one.offsets[i]!
  const tensors: TensorSource[] = [
    { name: 'indices', dtype: 'U32', shape: [pairs], data: () => codes.map((one) => one.indices) },
    { name: 'values', dtype: 'F32', shape: [pairs], data: () => codes.map((one) => one.values) },
    { name: 'counts', dtype: 'U32', shape: [rows], data: counts },
  ]
  if (encoded.every((one) => one.rows !== undefined))
    tensors.push({ name: 'rows', dtype: 'U64', shape: [rows], data: () => encoded.map((one) => one.rows!) })
  for (const [name, of] of inputTensors) {
    if (codes.every((one) => of(one) !== undefined))
      tensors.push({ name, dtype: 'F32', shape: [rows], data: () => codes.map((one) => of(one)!) })
  }
  // The row after its last one names it: parts sort by it.
  const path = join(folder, `part-${String(until).padStart(15, '0')}.safetensors`)
  await writeSafetensors(path, tensors, {
    ...task,
    metadata: { until: String(until) },
    digest: 'content',
  })
  return { path, until, rows, pairs }
}

type NormalisedCodes = SparseCodes & {
  readonly inputMean?: Float32Array | undefined
  readonly inputScale?: Float32Array | undefined
}

const inputTensors: readonly [string, (codes: NormalisedCodes) => Float32Array | undefined][] = [
  ['input_mean', (codes) => codes.inputMean],
  ['input_scale', (codes) => codes.inputScale],
]

async function joinParts(
  sae: Sae,
  out: string,
  parts: readonly Part[],
  task: TaskOptions,
): Promise<EncodedFile> {
  const rows = parts.reduce((sum, part) => sum + part.rows, 0)
  const pairs = parts.reduce((sum, part) => sum + part.pairs, 0)
  const open = (part: Part): SafetensorsFile => SafetensorsFile.open(part.path)
  const concatenated = (name: string) =>
    async function* (): AsyncGenerator<TensorArray> {
      for (const part of parts) yield* open(part).pieces(name)
    }
  let k: number | undefined = rows > 0 && pairs % rows === 0 ? pairs / rows : undefined
  for (const part of parts)
    if (
      k !== undefined &&
      !open(part)
        .u32('counts')
        .every((count) => count === k)
    )
      k = undefined
  const shape = k === undefined || k === 0 ? [pairs] : [rows, k]
  if (k === 0) k = undefined
  const tensors: TensorSource[] = [
    { name: 'indices', dtype: 'U32', shape, data: concatenated('indices') },
    { name: 'values', dtype: 'F32', shape, data: concatenated('values') },
  ]
  if (k === undefined)
    tensors.push({ name: 'offsets', dtype: 'U64', shape: [rows + 1], data: () => offsetsOf(parts.map(open)) })
  const ofRows = [['rows', 'U64'] as const, ...inputTensors.map(([name]) => [name, 'F32'] as const)]
  for (const [name, dtype] of ofRows)
    if (parts.every((part) => open(part).tensors.has(name)))
      tensors.push({ name, dtype, shape: [rows], data: concatenated(name) })
  const metadata = { format: CODES_FORMAT, version: VERSION, latents: String(sae.latents) }
  try {
    await writeSafetensors(out, tensors, { ...task, metadata, digest: 'content' })
  } catch (error) {
    throw toPersonascopeError(error, out)
  }
  return { rows, pairs, k }
}

/** 0 and the running sums of all counts, a part at a time. */
function* offsetsOf(files: readonly SafetensorsFile[]): Generator<BigUint64Array> {
  let total = 0n
  yield BigUint64Array.of(total)
  for (const file of files) {
    const counts = file.u32('counts')
    const offsets = new BigUint64Array(counts.length)
    for (let i = 0; i < counts.length; i++) offsets[i] = total += BigInt(counts[i]!)
    yield offsets
  }
}
