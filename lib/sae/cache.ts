/** Where an SAE's prepared copy is kept. */
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

export interface CachePlace {
  file: string
  /** Sizes and times of the files that the SAE is read from. */
  identity: string
}

/** Of files that hold what was prepared of an SAE (native/sae/prepared_file.h). */
const CACHE_SUFFIX = '.personascope'

/**
 * Where the cache of the SAE in `path` lies, and what tells versions of the SAE apart. `true`: beside the weights.
 */
export async function cachePlace(path: string, cache: string | true): Promise<CachePlace> {
  const isFolder = (await stat(path)).isDirectory()
  const folder = isFolder ? path : dirname(path)
  const names = isFolder ? (await readdir(path)).toSorted() : [basename(path)]
  const about: string[] = []
  for (const name of names) {
    if (name.includes(CACHE_SUFFIX)) continue
    const { size, mtimeMs } = await stat(join(folder, name))
    about.push(`${name} ${size} ${mtimeMs}`)
  }
  const file =
    cache === true ? join(folder, isFolder ? `prepared${CACHE_SUFFIX}` : `${names[0]}${CACHE_SUFFIX}`) : cache
  return { file, identity: about.join('\n') }
}
