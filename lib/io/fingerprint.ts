import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { toPersonascopeError } from '../core/errors.js'

/**
 * Tells the content of a file, or of the files in a folder (not below it), apart from what it was before, without reading
 * it: by names, sizes and times of change. Errors: `ERR_NOT_FOUND`, `ERR_IO`.
 */
export async function fingerprint(path: string): Promise<string> {
  try {
    const about = await stat(path)
    const files = about.isDirectory()
      ? (await readdir(path)).filter((name) => !name.startsWith('.')).map((name) => join(path, name))
      : [path]
    const lines = await Promise.all(
      files.toSorted().map(async (file) => {
        const { size, mtimeMs } = await stat(file)
        return JSON.stringify([basename(file), size, mtimeMs])
      }),
    )
    return createHash('sha256').update(lines.join('\n')).digest('hex')
  } catch (error) {
    throw toPersonascopeError(error, path)
  }
}
