/** Any SAE format, told by what lies in the folder. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { PersonascopeError, requireArgument } from '../../core/errors.js'
import { throwIfAborted, type TaskOptions } from '../../core/task.js'
import type { SaeSpec } from '../spec.js'
import { crosscoder } from './crosscoder.js'
import { dictionaryLearning } from './dictionary-learning.js'
import { placeAt, type Place, type SaeFormat } from './format.js'
import { gemmaScope } from './gemma-scope.js'
import { openai } from './openai.js'
import { saelens } from './saelens.js'
import { sparsify } from './sparsify.js'

const formats: readonly SaeFormat[] = [saelens, sparsify, gemmaScope, openai, dictionaryLearning, crosscoder]

export interface FoundSae {
  format: string
  spec: SaeSpec
}

/**
 * Reads the SAE in a folder or file, of whatever format (the semantics of each are those of the library that wrote it).
 * Weights stay in the mapped files. Errors: `ERR_NOT_FOUND`; `ERR_FORMAT`, which lists what each format would need
 * where none fits, and the SAEs below the folder where there are several.
 */
export async function readSae(path: string, options?: TaskOptions): Promise<SaeSpec> {
  return (await findSae(path, options)).spec
}

/** As {@link readSae}, and says which format it is. */
export async function findSae(path: string, options?: TaskOptions): Promise<FoundSae> {
  requireArgument(
    typeof path === 'string' && path !== '',
    `path: found ${String(path)}, expected a folder or file`,
  )
  throwIfAborted(options)
  const place = await placeAt(path)
  const { format, tried } = await formatOf(place)
  if (format !== undefined) return { format: format.name, spec: await format.read(place, options) }
  const below = place.file === undefined ? await saesBelow(path) : []
  if (below.length > 0)
    throw new PersonascopeError(
      'ERR_FORMAT',
      `${path}: found no SAE, but ${below.length} in folders below it: ${listed(below)}`,
      {
        hint: `choose one of them, e.g. ${join(path, below[0]!)}`,
      },
    )
  throw new PersonascopeError('ERR_FORMAT', `${path}: no SAE of a known format (${tried.join('; ')})`)
}

/** Whether some format knows what lies there; its content is not read. */
export async function holdsSae(path: string): Promise<boolean> {
  return (await formatOf(await placeAt(path))).format !== undefined
}

/** The first format that fits, or what each would need. */
async function formatOf(place: Place): Promise<{ format: SaeFormat | undefined; tried: string[] }> {
  const tried: string[] = []
  for (const format of formats) {
    const lack = await format.lacks(place)
    if (lack === undefined) return { format, tried }
    tried.push(`${format.name}: no ${lack}`)
  }
  return { format: undefined, tried }
}

/** Folders up to two levels down that hold an SAE: hookpoints, seeds, layers, widths. */
async function saesBelow(path: string, depth = 2): Promise<string[]> {
  const found: string[] = []
  for (const name of (await readdir(path)).toSorted().slice(0, 256)) {
    const below = join(path, name)
    if (!(await stat(below).catch(() => undefined))?.isDirectory()) continue
    const place = await placeAt(below)
    const lacks = await Promise.all(
      formats.map((format) => format.lacks(place).catch(() => 'a readable file')),
    )
    if (lacks.includes(undefined)) found.push(name)
    else if (depth > 1) found.push(...(await saesBelow(below, depth - 1)).map((deeper) => join(name, deeper)))
  }
  return found
}

function listed(names: readonly string[]): string {
  return names.slice(0, 12).join(', ') + (names.length > 12 ? ', …' : '')
}
