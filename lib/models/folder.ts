/** What a Hugging Face model folder holds. */
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { PersonascopeError, toPersonascopeError } from '../core/errors.js'
import { readJson } from '../io/json.js'
import { parseModelConfig, type ParsedConfig } from './config.js'

const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) })

/** config.json of a folder. */
export async function readModelConfig(directory: string): Promise<ParsedConfig> {
  const path = join(directory, 'config.json')
  return parseModelConfig(await readJson(path, z.looseObject({})), path)
}

/** Paths of the folder's weights: model.safetensors, or the shards that model.safetensors.index.json names. */
export async function weightFiles(directory: string): Promise<string[]> {
  const single = join(directory, 'model.safetensors')
  if (await exists(single)) return [single]
  const index = join(directory, 'model.safetensors.index.json')
  if (!(await exists(index)))
    throw new PersonascopeError(
      'ERR_NOT_FOUND',
      `${directory}: neither model.safetensors nor model.safetensors.index.json is there`,
      { hint: 'weights in other formats (such as pytorch_model.bin) are to be saved as safetensors first' },
    )
  const { weight_map: map } = await readJson(index, indexSchema)
  const names = [...new Set(Object.values(map))].toSorted()
  for (const name of names)
    if (name.includes('/') || name.includes('\\') || name === '..')
      throw new PersonascopeError('ERR_FORMAT', `${index}: shard '${name}' is not a file of the folder`)
  return names.map((name) => join(directory, name))
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw toPersonascopeError(error, path)
  }
}
