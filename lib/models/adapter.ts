/** Low-rank adapters in PEFT's folder layout: adapter_config.json and adapter_model.safetensors. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { PersonascopeError } from '../core/errors.js'
import type { TaskOptions } from '../core/task.js'
import { readJson, writeJson } from '../io/json.js'
import { writeSafetensors } from '../io/safetensors.js'

export interface AdapterConfig {
  rank: number
  alpha: number
  /** Patterns of module names. */
  modules: string[]
  rankStabilised: boolean
}

const adapterSchema = z.looseObject({
  peft_type: z.literal('LORA'),
  r: z.int().positive(),
  lora_alpha: z.number().positive(),
  target_modules: z.array(z.string()).min(1),
  use_rslora: z.boolean().default(false),
  use_dora: z.boolean().default(false),
  bias: z.string().default('none'),
  modules_to_save: z.array(z.string()).nullish(),
  layers_to_transform: z.unknown().nullish(),
  rank_pattern: z.record(z.string(), z.number()).default({}),
  alpha_pattern: z.record(z.string(), z.number()).default({}),
})

/** Errors: `ERR_FORMAT` naming the setting that this engine cannot apply. */
export async function readAdapterConfig(directory: string): Promise<AdapterConfig> {
  const path = join(directory, 'adapter_config.json')
  const config = await readJson(path, adapterSchema)
  const refuse = (setting: string): never => {
    throw new PersonascopeError('ERR_FORMAT', `${path}: ${setting} is not supported`)
  }
  if (config.use_dora) refuse('use_dora true')
  if (config.bias !== 'none') refuse(`bias '${config.bias}'`)
  if (config.modules_to_save != null && config.modules_to_save.length > 0) refuse('modules_to_save')
  if (config.layers_to_transform != null) refuse('layers_to_transform')
  if (Object.keys(config.rank_pattern).length > 0) refuse('rank_pattern')
  if (Object.keys(config.alpha_pattern).length > 0) refuse('alpha_pattern')
  return {
    rank: config.r,
    alpha: config.lora_alpha,
    modules: config.target_modules,
    rankStabilised: config.use_rslora,
  }
}

/** Writes both files; the tensors under PEFT's names. */
export async function writeAdapter(
  directory: string,
  adapter: AdapterConfig,
  family: 'gpt2' | 'llama',
  tensors: readonly { name: string; shape: readonly number[]; values: Float32Array }[],
  options: TaskOptions,
): Promise<void> {
  await mkdir(directory, { recursive: true })
  await writeSafetensors(
    join(directory, 'adapter_model.safetensors'),
    tensors.map(({ name, shape, values }) => ({ name, shape, dtype: 'F32' as const, data: values })),
    { ...options, metadata: { format: 'pt' } },
  )
  // Patterns with * are resolved to full module names: PEFT knows names and suffixes only.
  const modules = adapter.modules.some((module) => module.includes('*'))
    ? tensors
        .filter(({ name }) => name.endsWith('.lora_A.weight'))
        .map(({ name }) => name.slice('base_model.model.'.length, -'.lora_A.weight'.length))
    : adapter.modules
  await writeJson(join(directory, 'adapter_config.json'), {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    r: adapter.rank,
    lora_alpha: adapter.alpha,
    lora_dropout: 0,
    target_modules: modules,
    use_rslora: adapter.rankStabilised,
    bias: 'none',
    fan_in_fan_out: family === 'gpt2',
    inference_mode: true,
  })
}
