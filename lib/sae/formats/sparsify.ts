/** EleutherAI's sparsify (https://github.com/EleutherAI/sparsify): `<hookpoint>/cfg.json` and `sae.safetensors`. */
import { basename, join, resolve } from 'node:path'
import { z } from 'zod'
import type { TaskOptions } from '../../core/task.js'
import { readJson } from '../../io/json.js'
import { TensorFile } from '../../io/tensor-file.js'
import type { SaeMetadata } from '../config.js'
import type { SaeSpec } from '../spec.js'
import { missingFiles, type Place, type SaeFormat } from './format.js'
import { refuse, requireK } from './weights.js'

const CONFIG = 'cfg.json'
const WEIGHTS = 'sae.safetensors'

const schema = z.object({
  activation: z.enum(['topk', 'groupmax']).default('topk'),
  expansion_factor: z.int().min(1).default(32),
  num_latents: z.int().min(0).default(0),
  k: z.int().min(1).default(32),
  skip_connection: z.boolean().default(false),
  transcode: z.boolean().default(false),
  d_in: z.int().min(1),
})

export const sparsify: SaeFormat = {
  name: 'sparsify',

  async lacks(place: Place): Promise<string | undefined> {
    return missingFiles(place, [CONFIG, WEIGHTS])
  },

  async read(place: Place, options?: TaskOptions): Promise<SaeSpec> {
    const where = join(place.folder, CONFIG)
    const config = await readJson(where, schema)
    const file = await TensorFile.open(join(place.folder, WEIGHTS), options)
    const dModel = config.d_in
    // 0 stands for "as many as the factor says".
    const latents = config.num_latents === 0 ? dModel * config.expansion_factor : config.num_latents
    const k = requireK(where, config.k, latents)
    if (config.activation === 'groupmax' && latents % k !== 0)
      refuse(where, 'k', k, `a divisor of the ${latents} latents, for groupmax`)
    const wDec = file.tensor('W_dec')
    const dOut = wDec.shape[1] ?? 0
    const spec: SaeSpec = {
      dModel,
      latents,
      architecture: config.activation,
      selection: { rule: config.activation, k },
      inputNorm: 'none',
      subtractDecoderBias: !config.transcode,
      wEnc: file.tensor('encoder.weight', [latents, dModel]),
      wDec: file.tensor('W_dec', [latents, config.transcode ? dOut : dModel]),
      bEnc: await file.f32('encoder.bias', [latents], options),
      bDec: await file.f32('b_dec', [config.transcode ? dOut : dModel], options),
      metadata: metadataOf(resolve(place.folder)),
    }
    if (config.transcode) spec.dOut = dOut
    if (config.skip_connection) spec.wSkip = file.tensor('W_skip', [dOut, dModel])
    return spec
  },
}

/** The folder is named after the module whose output was read, e.g. 'layers.5' or 'h.5': a block. */
function metadataOf(folder: string): SaeMetadata {
  const parts = folder.split(/[/\\]/)
  const name = /^seed\d+$/.test(basename(folder)) ? parts.at(-2) : parts.at(-1)
  const block = /^(?:.*\.)?(?:layers|h)\.(\d+)$/.exec(name ?? '')
  return block === null ? {} : { hook: { point: 'resid_post', layer: Number(block[1]) } }
}
