import { rm } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { PersonascopeError, toPersonascopeError } from '../core/errors.js'
import { throwIfAborted, type TaskOptions } from '../core/task.js'
import { defaultBatchSize, requireFit, requireRows } from '../activations/fit.js'
import type { RowSelection } from '../activations/select.js'
import type { ActivationStore } from '../activations/store.js'
import { removePartials } from '../io/atomic.js'
import type { Sae } from '../sae/sae.js'
import { LatentStats, type LatentStatsOptions } from './latent-stats.js'

export interface CollectOptions extends LatentStatsOptions, TaskOptions {
  /** Rows of the store that count. Default 'all'. */
  select?: RowSelection
  /** Rows encoded together. Default: 16 MiB of activations. */
  batchSize?: number
  /** Where statistics so far are kept; a stopped run goes on from there, to the same bits. */
  checkpoint?: Checkpoint | undefined
}

export interface Checkpoint {
  /** Rewritten (beside and renamed) now and then, and at the end. */
  file: string
  /** Says what is collected, e.g. of which SAE; a checkpoint of something else is refused. */
  identity: string
  /** Default 120; more where saving takes long, so that it never takes more than a fiftieth of the time. */
  everySeconds?: number
}

/**
 * Statistics over the rows of a store, larger than memory: batches are read ahead while others are encoded. Groups are
 * the store's prompts; progress counts rows of the store. Errors: `ERR_INVALID_ARGUMENT` (widths differ, no rows),
 * `ERR_NON_FINITE` (file, row and component), `ERR_FORMAT`, `ERR_IO`.
 */
export async function collectStats(
  sae: Sae,
  store: ActivationStore,
  options: CollectOptions = {},
): Promise<LatentStats> {
  const { stats, written } = await beginCollectStats(sae, store, options)
  await written
  return stats
}

/** @internal As `collectStats`; resolves once the statistics are whole, while the last checkpoint is still being written. */
export async function beginCollectStats(
  sae: Sae,
  store: ActivationStore,
  options: CollectOptions = {},
): Promise<{ stats: LatentStats; written: Promise<void> }> {
  requireFit(sae, store)
  const { select = 'all', batchSize = defaultBatchSize(sae.dModel), checkpoint, signal, onProgress } = options
  const { examples, distinctGroups, exampleLatents, perGroup } = options
  const wanted = { examples, distinctGroups, exampleLatents, perGroup } as LatentStatsOptions
  const resumed = checkpoint === undefined ? undefined : await readCheckpoint(checkpoint, store, { signal })
  const stats = resumed?.stats ?? new LatentStats(sae.latents, wanted)
  let interval = checkpoint?.everySeconds ?? 120
  let saved = performance.now()
  let firstRow = resumed?.firstRow ?? 0
  // A checkpoint is written while the next batches are encoded; a failure is told when the next one is due.
  let writing = Promise.resolve()
  const save = async ({ file, identity }: Checkpoint, task: TaskOptions): Promise<void> => {
    await writing
    saved = performance.now()
    const extra = { identity, store: store.fingerprint, rowsRead: String(firstRow) }
    const { written } = await stats.beginSave(file, { ...task, extra })
    writing = timed(written)
    writing.catch(() => undefined)
  }
  const timed = async (written: Promise<void>): Promise<void> => {
    const begun = saved
    await written
    interval = Math.max(interval, ((performance.now() - begun) / 1000) * 50)
  }
  const report = () => onProgress?.({ done: firstRow, total: store.rows, unit: 'tokens' })
  report()
  try {
    for await (const batch of store.batches({ batchSize, select, firstRow, signal, reuse: true })) {
      const before = stats.rows
      try {
        await stats.addActivations(sae, batch, { signal })
      } finally {
        // Where it was stopped, the first rows of the batch may have been added.
        const added = stats.rows - before
        if (added > 0) firstRow = batch.ids[added - 1]! + 1
      }
      report()
      if (checkpoint !== undefined && performance.now() - saved >= interval * 1000)
        await save(checkpoint, { signal })
    }
    firstRow = store.rows
    requireRows(store, select, stats.rows)
    throwIfAborted(options)
  } catch (error) {
    await writing.catch(() => undefined)
    // Stopped by the user, nothing that was done is lost; what was being written was stopped too.
    if (signal?.aborted === true && checkpoint !== undefined && stats.rows > 0) {
      writing = Promise.resolve()
      await save(checkpoint, {}).catch(() => undefined)
      await writing.catch(() => undefined)
    }
    throw error
  }
  // A stop comes too late for the last one: it is all that was done.
  if (checkpoint !== undefined) await save(checkpoint, {})
  report()
  return { stats, written: writing }
}

async function readCheckpoint(
  checkpoint: Checkpoint,
  store: ActivationStore,
  task: TaskOptions,
): Promise<{ stats: LatentStats; firstRow: number } | undefined> {
  let found: Awaited<ReturnType<typeof LatentStats.loadWithExtra>>
  try {
    found = await LatentStats.loadWithExtra(checkpoint.file, task)
  } catch (error) {
    const failure = toPersonascopeError(error)
    if (failure.code === 'ERR_NOT_FOUND') return undefined
    throw failure
  }
  const { identity, store: fingerprint, rowsRead } = found.extra
  const firstRow = Number(rowsRead)
  if (identity !== checkpoint.identity || fingerprint !== store.fingerprint)
    throw new PersonascopeError(
      'ERR_INVALID_ARGUMENT',
      `${checkpoint.file}: a checkpoint of other inputs or options, it cannot be resumed with these`,
      { hint: 'run without resuming to begin again' },
    )
  if (!(Number.isSafeInteger(firstRow) && firstRow >= 0 && firstRow <= store.rows))
    throw new PersonascopeError(
      'ERR_FORMAT',
      `${checkpoint.file}: rowsRead is '${rowsRead ?? ''}', expected 0 to ${store.rows}`,
    )
  return { stats: found.stats, firstRow }
}

/** Removes a checkpoint, and one that was being written; one that is not there is fine. */
export async function removeCheckpoint(file: string): Promise<void> {
  await rm(file, { force: true })
  await removePartials(dirname(file), basename(file))
}
