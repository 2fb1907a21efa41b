import type { Device } from '../../lib/core/device-tensor.js'
import { runtimeInfo } from '../../lib/core/runtime.js'

/** A GPU can be used: a real one, or an emulated one that PERSONASCOPE_CUDA_PLUGIN names. */
export const { usable: hasGpu } = runtimeInfo().plugins.cuda

/** What runs on every device runs on these: the CPU alone where there is no GPU. */
export const devices: readonly Device[] = hasGpu ? ['cpu', 'cuda'] : ['cpu']

/** Numbers that look random and are the same everywhere. */
export const wave = (count: number, step: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(i * step))

/** Weights of a small SAE; its k is the caller's. */
export const waveWeights = (dModel: number, latents: number) => ({
  dModel,
  latents,
  wEnc: wave(latents * dModel, 1.7),
  wDec: wave(latents * dModel, 0.9),
  bEnc: wave(latents, 0.3),
  bDec: wave(dModel, 2.1),
})
