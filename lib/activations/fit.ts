/** What everyone who encodes a store asks first: does it fit the SAE, and how much of it at once. */
import { requireArgument } from '../core/errors.js'
import type { Sae } from '../sae/sae.js'
import type { RowSelection } from './select.js'
import type { ActivationStore } from './store.js'

/** Rows that make a batch of 16 MiB. */
export function defaultBatchSize(dModel: number): number {
  return Math.max(64, Math.min(8192, Math.floor((1 << 22) / dModel)))
}

/** Refuses activations that the SAE cannot take. */
export function requireFit(sae: Sae, store: ActivationStore): void {
  requireArgument(
    store.dModel === sae.dModel,
    `${store.path}: activations of width ${store.dModel}, but the SAE takes ${sae.dModel}`,
  )
  requireArgument(store.rows > 0, `${store.path}: the activation store has no rows`)
}

/** Refuses a selection that chose none of the store's rows. */
export function requireRows(store: ActivationStore, select: RowSelection, rows: number): void {
  requireArgument(
    rows > 0,
    `${store.path}: none of its ${store.rows} rows were selected`,
    select === 'assistant'
      ? "rows of the assistant are those with role 3 in the tensor 'roles' of the store"
      : undefined,
  )
}
