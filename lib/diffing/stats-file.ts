/**
 * Latent statistics in a safetensors file: what merging needs, exactly, and the plain figures for other readers.
 *
 *   sum, sum_of_squares  F64 [n]      rounded once
 *   active_count         U64 [n]
 *   max                  F32 [n]
 *   exact.*                           the exact sums (native/kernels/latent_stats/latent_stats.h), groups and examples
 *
 * The metadata holds the options and a content digest (io/content-digest.ts); equal statistics give equal files.
 */
import { stat } from 'node:fs/promises'
import { z } from 'zod'
import { PersonascopeError, toPersonascopeError } from '../core/errors.js'
import type { TaskOptions } from '../core/task.js'
import {
  arrayOf,
  SafetensorsFile,
  writeSafetensors,
  type TensorArray,
  type TensorSource,
} from '../io/safetensors.js'
import { DIGEST_KEY, requireIntact } from '../io/content-digest.js'
import type {
  LatentStatsArrays,
  NativeLatentStatsState,
  RestoredLatentStatsState,
  SavedLatentStatsArrays,
} from '../native.js'
import { parseJson } from '../io/json.js'
import type { LatentStatsOptions } from './latent-stats.js'

export const STATS_FORMAT = 'personascope-latent-stats'
const VERSION = '2'

const optionsSchema = z.strictObject({
  latents: z.int().min(1),
  rows: z.int().min(0),
  examples: z.int().min(0),
  distinctGroups: z.boolean(),
  perGroup: z.boolean(),
})

/** Names in the file, and types, of the arrays that are read back. */
const exact = {
  sum: ['exact.sum', 'U64'],
  squares: ['exact.squares', 'U64'],
  wideLatents: ['exact.wide_latents', 'U32'],
  wideSums: ['exact.wide_sums', 'U64'],
  wideSquares: ['exact.wide_squares', 'U64'],
  groups: ['exact.groups', 'U32'],
  groupRows: ['exact.group_rows', 'U64'],
  partBegin: ['exact.part_begin', 'U64'],
  partGroups: ['exact.part_groups', 'U32'],
  parts: ['exact.parts', 'F32'],
  exampleCounts: ['exact.example_counts', 'U32'],
  exampleValues: ['exact.example_values', 'F32'],
  exampleGroups: ['exact.example_groups', 'U32'],
  exampleIds: ['exact.example_ids', 'F64'],
  active: ['active_count', 'U64'],
  max: ['max', 'F32'],
} as const satisfies Record<keyof LatentStatsArrays, readonly [string, TensorSource['dtype']]>

/** Those that are written; the rounded sums are for other readers. */
const written = {
  roundedSum: ['sum', 'F64'],
  roundedSquares: ['sum_of_squares', 'F64'],
  ...exact,
} as const satisfies Record<keyof SavedLatentStatsArrays, readonly [string, TensorSource['dtype']]>

const exampleLatents = 'exact.example_latents'

/** The largest arrays: they stay in the mapped file. */
const mapped: ReadonlySet<string> = new Set(['partGroups', 'parts'])

export interface SavedStats<State = NativeLatentStatsState> {
  options: LatentStatsOptions & { latents: number }
  state: State
  /** What the writer added, e.g. how far it had come. */
  extra: Readonly<Record<string, string>>
}

/** Values copied out of the statistics at a time. */
const piece = 1 << 19

/** Writes statistics, beside and renamed, in little memory. The state is the caller's to release. */
export async function writeStats(path: string, stats: SavedStats, task: TaskOptions = {}): Promise<void> {
  const { options, state, extra } = stats
  const tensors = (Object.keys(written) as (keyof typeof written)[]).map((key): TensorSource => {
    const [name, dtype] = written[key]
    const size = state.sizes[key]
    const data = function* (): Generator<TensorArray> {
      const room = new arrayOf[dtype](Math.min(size, piece))
      for (let first = 0; first < size; first += piece) {
        const part = room.subarray(0, Math.min(piece, size - first))
        state.read(key, first, part as never) // of the type that `written` says
        yield part
      }
    }
    return { name, dtype, shape: [size], data }
  })
  const watched = options.exampleLatents
  if (watched !== undefined)
    tensors.push({
      name: exampleLatents,
      dtype: 'U32',
      shape: [watched.length],
      data: Uint32Array.from(watched),
    })
  const settings = JSON.stringify({
    latents: options.latents,
    rows: state.rows,
    examples: options.examples,
    distinctGroups: options.distinctGroups,
    perGroup: options.perGroup,
  })
  await writeSafetensors(path, tensors, {
    ...task,
    metadata: { ...extra, format: STATS_FORMAT, version: VERSION, options: settings },
    digest: 'content',
  })
}

/** Whether the file at `path` is one of these; `ERR_NOT_FOUND` where nothing is. */
export async function isStatsFile(path: string): Promise<boolean> {
  const about = await stat(path).catch((error: unknown) => {
    throw toPersonascopeError(error, path)
  })
  if (!about.isFile()) return false
  try {
    return SafetensorsFile.open(path).metadata['format'] === STATS_FORMAT
  } catch (error) {
    // Another kind of file, or a damaged one: whoever reads it as what it is called tells what is wrong.
    if (path.endsWith('.safetensors') || toPersonascopeError(error).code !== 'ERR_FORMAT') throw error
    return false
  }
}

/**
 * Reads statistics; sums per group stay in the mapped file. Errors: `ERR_NOT_FOUND`, `ERR_FORMAT` naming the file (not
 * one of ours, damaged).
 */
export async function readStats(
  path: string,
  task: TaskOptions = {},
): Promise<SavedStats<RestoredLatentStatsState>> {
  const file = SafetensorsFile.open(path)
  const { format, version, options: settings = '', [DIGEST_KEY]: _, ...extra } = file.metadata
  if (format !== STATS_FORMAT || version !== VERSION)
    throw new PersonascopeError(
      'ERR_FORMAT',
      `${path}: found format '${format ?? ''}' version '${version ?? ''}', expected '${STATS_FORMAT}' version '${VERSION}'`,
    )
  const { rows, ...options } = parseJson(settings, optionsSchema, `${path}: options`)
  const arrays = Object.entries(exact).map(([key, [name, dtype]]) => {
    const { dtype: found } = file.require(name)
    if (found !== dtype)
      throw new PersonascopeError('ERR_FORMAT', `${path}: tensor '${name}' is of ${found}, expected ${dtype}`)
    return [key, mapped.has(key) ? file.tensor(name) : file.view(name)] as const
  })
  const watched = file.tensors.has(exampleLatents) ? file.u32(exampleLatents) : undefined
  await requireIntact(file, 'the file was changed or damaged; collect the statistics again', task)
  return {
    options: { ...options, ...(watched === undefined ? {} : { exampleLatents: watched.slice() }) },
    state: { rows, ...Object.fromEntries(arrays) } as unknown as RestoredLatentStatsState,
    extra,
  }
}
