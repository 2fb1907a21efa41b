import { DeviceTensor, nativeValues } from '../core/device-tensor.js'
import { requireArgument } from '../core/errors.js'
import { runNative, type TaskOptions } from '../core/task.js'
import { native } from '../native.js'
import { unit } from './direction.js'
import type { SteeringOperation, SteeringStep } from './plan.js'

/**
 * A change of rows along vectors v, with c = `centre` or 0 and a = (x − c)·v, all taken before the change:
 *
 *     add      x += Σ amount·v                               any vectors
 *     ablate   x −= Σ a·v                                    orthonormal, as below
 *     clamp    x += Σ (min(max(a, low), high) − a)·v         low = high sets the coefficient
 *     project  x  = c + Σ a·v
 */
export interface RowSteering {
  operation: SteeringOperation
  /** [width] of one vector, or [dimensions, width], or with groups [groups, dimensions, width], row-major. */
  vectors: Float32Array
  /** Vectors of a row, at most 64. Default 1. */
  dimensions?: number
  /** Sets of vectors, of which each row has one. Default 1. */
  groups?: number
  /** [rows], with `groups` above 1: whose vectors a row takes. Default 0. */
  group?: Uint32Array
  /** add: [groups, dimensions]. */
  amounts?: Float32Array
  /** clamp: [groups, dimensions] each; infinite bounds are open ends. */
  low?: Float32Array
  high?: Float32Array
  /** [width] */
  centre?: Float32Array
  /** [rows]: rows that change, not 0. Default: all. */
  mask?: Uint8Array
}

const operations = { add: 0, ablate: 1, clamp: 2, project: 3 } as const

/**
 * Steers rows of activations in place, on the host or on the device where they lie: the same bits. `rows` is an array
 * [rows, width], or an F32 tensor [..., width] whose rows may be any step apart (a slice of columns, say). Errors:
 * `ERR_INVALID_ARGUMENT` (sizes, groups, bounds, vectors that are not orthonormal within 1e-3), `ERR_NON_FINITE` (vectors,
 * amounts, centre). Rows themselves are not looked at.
 */
export async function steerRows(
  rows: Float32Array | DeviceTensor,
  steering: RowSteering,
  options?: TaskOptions,
): Promise<void> {
  const { operation, dimensions = 1, groups = 1, ...arrays } = steering
  requireArgument(
    Object.hasOwn(operations, operation),
    `operation: found '${String(operation)}', expected add, ablate, clamp or project`,
  )
  const width = arrays.vectors.length / (groups * dimensions)
  requireArgument(
    Number.isInteger(width) && width > 0,
    `vectors: found ${arrays.vectors.length} values, expected ${groups} × ${dimensions} vectors of one width`,
  )
  await runNative(options, 'rows', (job) =>
    native.steerRows(
      nativeValues(rows),
      { ...arrays, operation: operations[operation], width, groups, dimensions },
      job,
    ),
  )
}

/** The change that a plan's step makes; which tokens it steers is left to `mask`. */
export function rowSteering(step: SteeringStep, mask?: Uint8Array): RowSteering {
  const amount = Float32Array.of(step.strength * step.scale)
  return {
    operation: step.operation,
    vectors: unit(step.vector, step.label),
    ...(step.operation === 'add' ? { amounts: amount } : {}),
    ...(step.operation === 'clamp' ? { low: amount, high: amount } : {}),
    ...(step.operation === 'add' || step.centre === undefined ? {} : { centre: step.centre }),
    ...(mask === undefined ? {} : { mask }),
  }
}
