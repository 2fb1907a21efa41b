import { requireArgument } from '../core/errors.js'

/**
 * Sparse codes of a batch: row i holds the pairs `offsets[i]` … `offsets[i + 1] − 1` of (latent, value), at most k
 * of them, values > 0 in falling order, equal values by lower latent.
 */
export class SparseCodes {
  /** Latents of the SAE. */
  readonly latents: number
  readonly indices: Uint32Array
  readonly values: Float32Array
  /** [rows + 1] */
  readonly offsets: Uint32Array

  constructor(latents: number, codes: { indices: Uint32Array; values: Float32Array; offsets: Uint32Array }) {
    this.latents = latents
    this.indices = codes.indices
    this.values = codes.values
    this.offsets = codes.offsets
  }

  get rows(): number {
    return this.offsets.length - 1
  }

  /** The pairs of one row, as views. */
  row(row: number): { indices: Uint32Array; values: Float32Array } {
    const begin = this.offsets[row]
    const end = this.offsets[row + 1]
    requireArgument(begin !== undefined && end !== undefined, `row ${row}: the codes have ${this.rows} rows`)
    return { indices: this.indices.subarray(begin, end), values: this.values.subarray(begin, end) }
  }

  /** The value of one latent in one row; 0 where it is not among the codes. */
  value(row: number, latent: number): number {
    const { indices, values } = this.row(row)
    const place = indices.indexOf(latent)
    return place < 0 ? 0 : values[place]!
  }
}
