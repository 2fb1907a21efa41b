/** Reading what SAE formats have in common from their tensor files. */
import { PersonascopeError } from '../../core/errors.js'
import { callNative, runNative, type TaskOptions } from '../../core/task.js'
import type { TensorFile } from '../../io/tensor-file.js'
import type { NativeTensor } from '../../native.js'
import type { Selection } from '../spec.js'

/** Refuses a field or tensor: what was found and what was expected. */
export function refuse(where: string, field: string, found: unknown, expected: string, hint?: string): never {
  throw new PersonascopeError(
    'ERR_FORMAT',
    `${where}: ${field} is ${found === undefined ? 'missing' : `'${String(found)}'`}, expected ${expected}`,
    hint === undefined ? {} : { hint },
  )
}

/** Rows and columns of a matrix; `ERR_FORMAT` if it is none. */
export function matrixShape(file: TensorFile, name: string): [rows: number, columns: number] {
  const { shape } = file.tensor(name)
  if (shape.length !== 2)
    throw new PersonascopeError(
      'ERR_FORMAT',
      `${file.path}: tensor '${name}' has shape [${shape.join(', ')}], expected two dimensions`,
    )
  return [shape[0]!, shape[1]!]
}

/** Norms of the rows, in one pass over them. */
export function rowNorms(tensor: NativeTensor, options?: TaskOptions): Promise<Float32Array> {
  return runNative({ signal: options?.signal }, 'rows', (job) => tensor.rowNorms(job))
}

/** A number that stands in the file as a tensor of one element, or as a plain number; undefined if absent. */
export function numberIn(file: TensorFile, name: string): number | undefined {
  const tensor = file.tensors.get(name)
  if (tensor !== undefined) return callNative(() => tensor.item())
  const scalar = file.scalars.get(name)
  return typeof scalar === 'number' ? scalar : undefined
}

/** As {@link numberIn}; `ERR_FORMAT` if it is absent or no number. */
export function requireNumber(file: TensorFile, name: string): number {
  const number = numberIn(file, name)
  if (number === undefined || !Number.isFinite(number))
    throw new PersonascopeError(
      'ERR_FORMAT',
      `${file.path}: '${name}' is ${number === undefined ? 'missing' : number}, expected a number`,
    )
  return number
}

/** k of a top-k SAE. */
export function requireK(where: string, k: number | null | undefined, latents: number): number {
  if (typeof k !== 'number' || !Number.isInteger(k) || k < 1 || k > latents)
    refuse(where, 'k', k, `a whole number from 1 to the ${latents} latents`)
  return k
}

/**
 * The threshold of a BatchTopK SAE. Trainers start it at −1: read as a threshold that would make a dense ReLU out of a
 * sparse SAE.
 */
export function batchThreshold(where: string, threshold: number): Selection {
  if (!(threshold >= 0))
    refuse(
      where,
      'threshold',
      threshold,
      'a number of at least 0',
      'training had not set it yet; estimate it with the library that made the file and save it again',
    )
  return { rule: 'threshold', threshold }
}
