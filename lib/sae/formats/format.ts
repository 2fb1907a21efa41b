/** What every reader of an SAE format is, and where it looks. */
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { toPersonascopeError } from '../../core/errors.js'
import type { TaskOptions } from '../../core/task.js'
import type { SaeSpec } from '../spec.js'

/** A folder that may hold an SAE, or one file of it that the user named. */
export interface Place {
  /** As the user gave it. */
  readonly path: string
  readonly folder: string
  /** What lies in the folder. */
  readonly names: ReadonlySet<string>
  /** Name of the file, if a file was given. */
  readonly file: string | undefined
}

export interface SaeFormat {
  readonly name: string
  /** What an SAE of this format has and this place lacks; undefined if nothing. Reads headers at most. */
  lacks(place: Place): Promise<string | undefined>
  /**
   * The SAE, weights left where they lie. Errors: `ERR_FORMAT` and `ERR_NOT_FOUND` naming the file and the field or
   * tensor.
   */
  read(place: Place, options?: TaskOptions): Promise<SaeSpec>
}

/** Errors: `ERR_NOT_FOUND`, `ERR_IO`. */
export async function placeAt(path: string): Promise<Place> {
  try {
    const isFolder = (await stat(path)).isDirectory()
    const folder = isFolder ? path : dirname(path)
    return {
      path,
      folder,
      names: new Set(await readdir(folder)),
      file: isFolder ? undefined : basename(path),
    }
  } catch (error) {
    throw toPersonascopeError(error, path)
  }
}

/** A file of the place: the one named if its ending fits, else the only one in the folder with that ending. */
export function fileWithEnding(place: Place, endings: readonly string[]): string | undefined {
  const fits = (name: string): boolean => endings.some((ending) => name.endsWith(ending))
  if (place.file !== undefined) return fits(place.file) ? place.path : undefined
  const found = [...place.names].filter(fits)
  return found.length === 1 ? join(place.folder, found[0]!) : undefined
}

/** Says which of the files are not in the folder. */
export function missingFiles(place: Place, files: readonly string[]): string | undefined {
  if (place.file !== undefined && !files.includes(place.file)) return `${files.join(' and ')}`
  const missing = files.filter((file) => !place.names.has(file))
  return missing.length === 0 ? undefined : missing.join(' and ')
}
