import { requireArgument } from '../core/errors.js'
import { callNative, runNative, throwIfAborted, type TaskOptions } from '../core/task.js'
import { native } from '../native.js'
import type { Sae } from '../sae/sae.js'

export interface CrosscoderOptions extends TaskOptions {
  /** Models, or layers, that the crosscoder reads: their decoders stand side by side. Default: the SAE's, or 2. */
  layers?: number
  /** The one that counts as 'after'. Default: the last. */
  after?: number
}

/** Latents of a crosscoder by whose they are. */
export interface DecoderNormRanking {
  /** [latents]: ‖decoder of `after`‖ / Σ of the norms of all: 1 only in it, 1/layers shared, 0 not in it. NaN if all are 0. */
  relative: Float64Array
  /** Latents by falling `relative`, and by rising; equal ones by lower index, NaN last. */
  descending: Uint32Array
  ascending: Uint32Array
}

/**
 * Ranks the latents of a crosscoder by the relative norm of their decoder vectors (Lindsey et al. 2024, "Sparse
 * crosscoders"): near 1 are latents that only the model after has, near 0 those that only the others have.
 */
export async function rankByDecoderNorm(
  sae: Sae,
  options: CrosscoderOptions = {},
): Promise<DecoderNormRanking> {
  const { layers = sae.spec.layers ?? 2, after = layers - 1, signal, onProgress } = options
  const { latents } = sae
  const width = sae.decoderVector(0).length / layers
  requireArgument(
    Number.isInteger(layers) && layers >= 2 && Number.isInteger(width),
    `layers: found ${layers}, expected 2 or more that divide the decoder's ${width * layers} columns`,
  )
  requireArgument(
    Number.isInteger(after) && after >= 0 && after < layers,
    `after: found ${after}, expected 0 to ${layers - 1}`,
  )
  const relative = new Float64Array(latents)
  const unused = new Float32Array(width)
  const step = Math.max(1, Math.floor((1 << 20) / (layers * width)))
  for (let begin = 0; begin < latents; begin += step) {
    throwIfAborted(options)
    const end = Math.min(latents, begin + step)
    const rows = callNative(() => sae.native.decoderRows(begin, end))
    // [latents, layers × width] is [latents × layers, width].
    const { norms } = await runNative({ signal }, 'rows', (job) =>
      native.rowProducts(rows, width, unused, job),
    )
    for (let latent = begin; latent < end; latent++) {
      const own = norms.subarray((latent - begin) * layers, (latent - begin + 1) * layers)
      relative[latent] = own[after]! / own.reduce((sum, norm) => sum + norm, 0)
    }
    onProgress?.({ done: end, total: latents, unit: 'latents' })
  }
  const ranked = (falling: boolean): Promise<Uint32Array> =>
    runNative({ signal }, 'latents', (job) => native.rankLatents(relative, falling, job))
  return { relative, descending: await ranked(true), ascending: await ranked(false) }
}
