import { createHash } from 'node:crypto'
import type { Sae } from './sae.js'

/**
 * Tells encoders apart, wherever their files lie and whatever format they are in: SHA-256 over how latents are chosen,
 * b_enc, b_dec and a few encoder vectors. Reads little of a large SAE. Errors: `ERR_NON_FINITE`.
 */
export function encoderDigest(sae: Sae): string {
  const { latents, dModel, selection, inputNorm, subtractDecoderBias, spec } = sae
  const hash = createHash('sha256')
  const add = (values: Float32Array): void =>
    void hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
  const scaled = spec.scaledCodes === true
  hash.update(JSON.stringify([latents, dModel, selection.rule, inputNorm, subtractDecoderBias, scaled]))
  for (const value of Object.values(selection))
    if (value instanceof Float32Array) add(value)
    else hash.update(JSON.stringify(value))
  if (spec.standardise !== undefined) [spec.standardise.mean, spec.standardise.scale].forEach(add)
  add(sae.encoderBias())
  if (subtractDecoderBias) add(sae.decoderBias())
  for (const latent of new Set([0, latents >> 1, latents - 1])) add(sae.encoderVector(latent))
  return hash.digest('hex')
}
