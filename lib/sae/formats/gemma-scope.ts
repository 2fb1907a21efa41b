/** Gemma Scope (https://huggingface.co/google/gemma-scope): `layer_L/width_W/average_l0_K/params.npz`, JumpReLU. */
import { join, resolve } from 'node:path'
import type { TaskOptions } from '../../core/task.js'
import { TensorFile } from '../../io/tensor-file.js'
import type { SaeMetadata } from '../config.js'
import type { SaeSpec } from '../spec.js'
import { missingFiles, type Place, type SaeFormat } from './format.js'
import { matrixShape } from './weights.js'

const FILE = 'params.npz'

export const gemmaScope: SaeFormat = {
  name: 'Gemma Scope',

  async lacks(place: Place): Promise<string | undefined> {
    return place.file?.endsWith('.npz') === true ? undefined : missingFiles(place, [FILE])
  },

  async read(place: Place, options?: TaskOptions): Promise<SaeSpec> {
    const file = await TensorFile.open(
      place.file === undefined ? join(place.folder, FILE) : place.path,
      options,
    )
    // Both spellings are about.
    const name = (upper: string): string => (file.tensors.has(upper) ? upper : upper.toLowerCase())
    const [dModel, latents] = matrixShape(file, name('W_enc'))
    return {
      dModel,
      latents,
      architecture: 'jumprelu',
      selection: { rule: 'threshold', threshold: await file.f32('threshold', [latents], options) },
      inputNorm: 'none',
      subtractDecoderBias: false,
      wEnc: file.tensor(name('W_enc')).transpose(),
      wDec: file.tensor(name('W_dec'), [latents, dModel]),
      bEnc: await file.f32('b_enc', [latents], options),
      bDec: await file.f32('b_dec', [dModel], options),
      metadata: metadataOf(resolve(place.folder)),
    }
  },
}

/** There is no config: model and place come from the repository's name, the layer from the folder. */
function metadataOf(folder: string): SaeMetadata {
  const repository = /gemma-scope(-2)?-(\d+b)-(pt|it)-(res|mlp|att)/.exec(folder)
  const layer = /(?:^|[/\\])layer_(\d+)(?:[/\\]|$)/.exec(folder)
  const metadata: SaeMetadata = {}
  if (repository !== null && repository[1] === undefined)
    metadata.modelName = `google/gemma-2-${repository[2]}${repository[3] === 'it' ? '-it' : ''}`
  if (layer !== null && (repository === null || repository[4] === 'res'))
    metadata.hook = { point: 'resid_post', layer: Number(layer[1]) }
  return metadata
}
