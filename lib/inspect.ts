/** What a file or folder is, and whether it is sound. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { INDEX_FILE } from './activations/format.js'
import { ActivationStore } from './activations/store.js'
import { CODES_FORMAT } from './activations/encode-store.js'
import { PersonascopeError, toPersonascopeError } from './core/errors.js'
import { throwIfAborted, type TaskOptions } from './core/task.js'
import { LatentStats } from './diffing/latent-stats.js'
import { STATS_FORMAT } from './diffing/stats-file.js'
import { SafetensorsFile } from './io/safetensors.js'
import { isIntact, NOT_INTACT } from './io/content-digest.js'
import { TensorFile } from './io/tensor-file.js'
import { hookName } from './models/hook.js'
import { native } from './native.js'
import { holdsSae } from './sae/formats/index.js'
import { inspectSae, type InspectedSae } from './sae/inspect.js'

export interface InspectedActivations {
  kind: 'activations'
  rows: number
  dModel: number
  sequences: number
  shards: number
  model: string
  hook: string | null
  problems: string[]
}

export interface InspectedCodes {
  kind: 'codes'
  rows: number
  /** Codes a row, where all rows have as many. */
  k: number | null
  pairs: number
  largestLatent: number
  problems: string[]
}

export interface InspectedStatistics {
  kind: 'statistics'
  latents: number
  rows: number
  problems: string[]
}

export interface InspectedTensors {
  kind: 'tensors'
  format: string
  tensors: { name: string; dtype: string; shape: number[] }[]
  problems: string[]
}

export type Inspected =
  InspectedSae | InspectedActivations | InspectedCodes | InspectedStatistics | InspectedTensors

/**
 * What lies at `path`, as `personascope inspect` says it: an SAE of any format, a store of activations, codes,
 * statistics, or a file of tensors. Reads everything once, in bounded memory. Errors: `ERR_NOT_FOUND`; `ERR_FORMAT` if it
 * is none of these; what is wrong with one of them is told in `problems`.
 */
export async function inspectPath(path: string, options: TaskOptions = {}): Promise<Inspected> {
  let folder: boolean
  try {
    folder = (await stat(path)).isDirectory()
  } catch (error) {
    throw toPersonascopeError(error, path)
  }
  throwIfAborted(options)
  if (folder) {
    const isStore = await stat(join(path, INDEX_FILE)).then(
      () => true,
      () => false,
    )
    return isStore ? inspectStore(await ActivationStore.open(path), options) : inspectFolder(path, options)
  }
  const file = await TensorFile.open(path, options)
  const names = new Set(file.tensors.keys())
  if (file.format === 'safetensors') {
    if (file.scalars.get('format') === STATS_FORMAT) return inspectStatistics(path, options)
    if (names.has('indices') && names.has('values')) return inspectCodes(path, options)
  }
  if (names.has('activations') || file.format === 'npy')
    return inspectStore(await ActivationStore.open(path), options)
  if (await holdsSae(path)) return inspectSae(path, options)
  const [only] = file.tensors.values()
  if (file.tensors.size === 1 && file.format === 'safetensors' && only!.shape.length === 2)
    return inspectStore(await ActivationStore.open(path), options)
  const problems: string[] = []
  await file.verify(options).catch((error: unknown) => {
    throwIfAborted(options)
    problems.push((error as Error).message)
  })
  return {
    kind: 'tensors',
    format: file.format,
    tensors: [...file.tensors].map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
    problems,
  }
}

/** A folder without an index: an SAE, or activations that another program wrote. */
async function inspectFolder(path: string, options: TaskOptions): Promise<Inspected> {
  if (await holdsSae(path)) return inspectSae(path, options)
  const store = await ActivationStore.open(path).catch((error: unknown) => toPersonascopeError(error))
  if (store instanceof ActivationStore) return inspectStore(store, options)
  return inspectSae(path, options).catch((error: unknown) => {
    const { code, message, hint } = toPersonascopeError(error)
    if (hint !== undefined) throw error
    throw new PersonascopeError(code, `${message}; nor activations: ${store.message}`)
  })
}

async function inspectStore(store: ActivationStore, options: TaskOptions): Promise<InspectedActivations> {
  const problems: string[] = []
  let done = 0
  try {
    // Checksums are checked by reading.
    for await (const { values } of store.batches({ batchSize: 4096, reuse: true })) {
      throwIfAborted(options)
      const at = native.firstNonFinite(values)
      if (at >= 0) {
        const row = done + Math.floor(at / store.dModel)
        problems.push(`activations: ${values[at]} in row ${row}, dimension ${at % store.dModel}`)
        break
      }
      done += values.length / store.dModel
      options.onProgress?.({ done, total: store.rows, unit: 'tokens' })
    }
  } catch (error) {
    throwIfAborted(options)
    problems.push((error as Error).message)
  }
  return {
    kind: 'activations',
    rows: store.rows,
    dModel: store.dModel,
    sequences: store.sequences,
    shards: store.shards,
    model: store.model,
    hook: store.hook === undefined ? null : hookName(store.hook),
    problems,
  }
}

async function inspectStatistics(path: string, options: TaskOptions): Promise<InspectedStatistics> {
  const stats = await LatentStats.load(path, options)
  return { kind: 'statistics', latents: stats.latents, rows: stats.rows, problems: [] }
}

async function inspectCodes(path: string, options: TaskOptions): Promise<InspectedCodes> {
  const file = SafetensorsFile.open(path)
  const { format, latents } = file.metadata
  const indices = file.u32('indices')
  const values = await file.f32('values')
  const { shape } = file.require('indices')
  const problems: string[] = []
  if (values.length !== indices.length)
    problems.push(`${indices.length} indices, but ${values.length} values`)
  const broken = values.findIndex((value) => !(value > 0) || !Number.isFinite(value))
  if (broken >= 0) problems.push(`values: ${values[broken]} at ${broken}, expected finite numbers above 0`)
  const offsets = file.tensors.has('offsets') ? (file.view('offsets') as BigUint64Array) : undefined
  if (offsets !== undefined) {
    const falls = offsets.findIndex((offset, i) => offset < (i === 0 ? 0n : offsets[i - 1]!))
    if (falls >= 0) problems.push(`offsets: fall at row ${falls}`)
    if (offsets[0] !== 0n || offsets.at(-1) !== BigInt(indices.length))
      problems.push(`offsets: run from ${offsets[0]} to ${offsets.at(-1)}, expected 0 to ${indices.length}`)
  }
  const rows = offsets === undefined ? (shape[0] ?? 0) : offsets.length - 1
  if (file.tensors.has('rows')) {
    const numbers = file.view('rows')
    if (numbers.length !== rows) problems.push(`rows: found ${numbers.length} numbers, expected ${rows}`)
    const falls = numbers.findIndex((number, i) => i > 0 && number <= numbers[i - 1]!)
    if (falls >= 0) problems.push(`rows: do not rise at ${falls}`)
  }
  const largestLatent = indices.reduce((largest, index) => Math.max(largest, index), 0)
  if (format === CODES_FORMAT) {
    if (!(await isIntact(file, options))) problems.push(NOT_INTACT)
    if (indices.length > 0 && !(largestLatent < Number(latents)))
      problems.push(`indices: found latent ${largestLatent}, expected less than ${latents}`)
  }
  return {
    kind: 'codes',
    rows,
    k: offsets === undefined ? (shape[1] ?? null) : null,
    pairs: indices.length,
    largestLatent,
    problems,
  }
}
