/** OpenAI's autoencoders (https://github.com/openai/sparse_autoencoder): one `.pt` file with a state dict. */
import type { TaskOptions } from '../../core/task.js'
import { TensorFile } from '../../io/tensor-file.js'
import type { SaeSpec, Selection } from '../spec.js'
import { fileWithEnding, type Place, type SaeFormat } from './format.js'
import { matrixShape, numberIn, refuse, requireK } from './weights.js'

const marks = ['pre_bias', 'latent_bias', 'encoder.weight']

export const openai: SaeFormat = {
  name: 'OpenAI sparse_autoencoder',

  async lacks(place: Place): Promise<string | undefined> {
    const path = fileWithEnding(place, ['.pt'])
    if (path === undefined) return 'a single .pt file'
    const file = await TensorFile.open(path)
    const missing = marks.filter((name) => !file.tensors.has(name))
    return missing.length === 0 ? undefined : `tensors ${missing.join(', ')}`
  },

  async read(place: Place, options?: TaskOptions): Promise<SaeSpec> {
    const file = await TensorFile.open(fileWithEnding(place, ['.pt'])!, options)
    const [latents, dModel] = matrixShape(file, 'encoder.weight')
    const topk = file.scalars.get('activation') === 'TopK'
    return {
      dModel,
      latents,
      architecture: String(file.scalars.get('activation')),
      selection: selectionOf(file, latents),
      // The TopK models were trained on normalised inputs, the ReLU ones were not.
      inputNorm: topk ? 'layer_norm' : 'none',
      subtractDecoderBias: true,
      wEnc: file.tensor('encoder.weight'),
      wDec: file.tensor('decoder.weight', [dModel, latents]).transpose(),
      bEnc: await file.f32('latent_bias', [latents], options),
      bDec: await file.f32('pre_bias', [dModel], options),
      metadata: {},
    }
  },
}

function selectionOf(file: TensorFile, latents: number): Selection {
  const activation = file.scalars.get('activation')
  if (activation === 'ReLU') return { rule: 'threshold', threshold: 0 }
  if (activation !== 'TopK') refuse(file.path, 'activation', activation, "'TopK' or 'ReLU'")
  const after = file.scalars.get('activation_state_dict/postact_fn')
  if (after !== undefined && after !== 'ReLU')
    refuse(file.path, 'activation_state_dict/postact_fn', after, "'ReLU'")
  return { rule: 'topk', k: requireK(file.path, numberIn(file, 'activation_state_dict/k'), latents) }
}
