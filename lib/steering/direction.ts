/** Directions in the residual stream that a model may be steered along. */
import { requireArgument } from '../core/errors.js'
import { Random } from '../core/random.js'

/** A vector of the residual stream, of any length: steering makes it unit length. */
export interface Direction {
  /** [dModel] */
  vector: Float32Array
  /** For people: e.g. 'latent 317'. */
  label: string
}

/** What is needed of an SAE to steer by its latents. */
export interface DecoderVectors {
  decoderVector(latent: number): Float32Array
}

/** The decoder vector of an SAE's latent. */
export function latentDirection(sae: DecoderVectors, latent: number): Direction {
  return { vector: sae.decoderVector(latent), label: `latent ${latent}` }
}

/** Uniform on the unit sphere: the control that every steering figure is compared with. */
export function randomDirection(dModel: number, seed: number): Direction {
  const random = new Random(seed).fork('random direction')
  const vector = Float32Array.from({ length: dModel }, () => random.gaussian())
  return { vector: unit(vector, `random direction ${seed}`), label: `random direction ${seed}` }
}

/** The same direction the other way round. */
export function negate(direction: Direction): Direction {
  return { vector: direction.vector.map((value) => -value), label: `−(${direction.label})` }
}

/** Σ weight · unit vector, e.g. one persona's latent minus another's; made unit length. */
export function combineDirections(
  parts: readonly { direction: Direction; weight: number }[],
  label: string,
): Direction {
  const first = parts[0]
  requireArgument(first !== undefined, 'parts: found none')
  const vector = new Float32Array(first.direction.vector.length)
  for (const { direction, weight } of parts) {
    requireArgument(
      direction.vector.length === vector.length,
      `direction '${direction.label}': found ${direction.vector.length} components, expected ${vector.length}`,
    )
    const one = unit(direction.vector, direction.label)
    for (let i = 0; i < vector.length; i++) vector[i] = (vector[i] as number) + weight * (one[i] as number)
  }
  return { vector: unit(vector, label), label }
}

/** A copy of unit length; `ERR_INVALID_ARGUMENT` for a zero vector or one with NaN or Inf. */
export function unit(vector: Float32Array, label: string): Float32Array {
  const norm = Math.sqrt(vector.reduce((total, value) => total + value * value, 0))
  requireArgument(
    Number.isFinite(norm) && norm > 0,
    `${label}: a vector of length ${norm} has no direction to steer along`,
  )
  return vector.map((value) => value / norm)
}
