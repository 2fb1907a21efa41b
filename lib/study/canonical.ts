import { createHash } from 'node:crypto'
import { PersonascopeError } from '../core/errors.js'

/**
 * JSON with sorted keys and no spaces: equal values give equal text. Typed arrays and values that JSON cannot hold
 * (NaN, Infinity) are refused with `ERR_INTERNAL` and the path of the culprit, since they would be saved as
 * something else.
 */
export function canonicalJson(value: unknown, path = '$'): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'number') {
    if (!Number.isFinite(value))
      throw new PersonascopeError('ERR_INTERNAL', `${path} is ${value}, which JSON cannot hold`)
    return JSON.stringify(value)
  }
  if (Array.isArray(value))
    return `[${value.map((item, i) => canonicalJson(item, `${path}[${i}]`)).join(',')}]`
  if (typeof value === 'object' && [Object.prototype, null].includes(Object.getPrototypeOf(value))) {
    const entries = Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item, `${path}.${key}`)}`).join(',')}}`
  }
  throw new PersonascopeError('ERR_INTERNAL', `${path} is not plain JSON (found ${typeof value})`)
}

export function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}

/** A seed for one purpose: the first 48 bits of SHA-256 over study seed and label. */
export function deriveSeed(seed: number, label: string): number {
  return Number.parseInt(sha256(`${seed}/${label}`).slice(0, 12), 16)
}
