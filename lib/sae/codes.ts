import { requireArgument } from '../core/errors.js'
import type { NativeEncodeReport } from '../native.js'

/** How a batch was encoded. The codes are the same bits whatever it says. */
export interface EncodeReport {
  /** In which latents were screened. */
  precision: 'fp32' | 'bf16' | 'int8'
  /** Mean number of latents a token that passed screening for a while. */
  screenedPerToken: number
  /** Mean number of latents a token that were computed once more, exactly. */
  rescoredPerToken: number
}

/** @internal */
export function encodeReport(report: NativeEncodeReport, rows: number): EncodeReport {
  const tokens = Math.max(1, rows)
  return {
    precision: report.precision,
    screenedPerToken: report.screened / tokens,
    rescoredPerToken: report.rescored / tokens,
  }
}

/**
 * Sparse codes of a batch: row i holds the pairs `offsets[i]` … `offsets[i + 1] − 1` of (latent, value), values > 0 in
 * falling order, equal values by lower latent. How many there are depends on the SAE's selection rule.
 */
export class SparseCodes {
  /** Latents of the SAE. */
  readonly latents: number
  readonly indices: Uint32Array
  readonly values: Float32Array
  /** [rows + 1] */
  readonly offsets: Uint32Array
  /** [rows], where the SAE normalises its inputs: decoding gives value × inputScale + inputMean. */
  readonly inputMean: Float32Array | undefined
  readonly inputScale: Float32Array | undefined
  readonly #report: EncodeReport | undefined

  constructor(
    latents: number,
    codes: {
      indices: Uint32Array
      values: Float32Array
      offsets: Uint32Array
      inputMean?: Float32Array | undefined
      inputScale?: Float32Array | undefined
    },
    report?: EncodeReport,
  ) {
    this.latents = latents
    this.indices = codes.indices
    this.values = codes.values
    this.offsets = codes.offsets
    this.inputMean = codes.inputMean
    this.inputScale = codes.inputScale
    this.#report = report
  }

  /** How they were made; undefined for codes that `Sae.encode` did not make. */
  get report(): EncodeReport | undefined {
    return this.#report
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
