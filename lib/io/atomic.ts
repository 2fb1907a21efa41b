/**
 * Files that are whole or absent: written beside their target under a name that ends in `.partial`, flushed to
 * the disk, then renamed. A failure (disk full, no permission, abort) removes the partial file; only a killed
 * process leaves one behind, which {@link removePartials} clears away.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { toPersonascopeError } from '../core/errors.js'

const suffix = '.partial'

/** Appends bytes or text to the file being written. */
export type WriteChunk = (chunk: string | Uint8Array) => Promise<void>

/** Replaces bytes that were written, from a place in the file on. */
export type RewriteBytes = (bytes: Uint8Array, position: number) => Promise<void>

/**
 * Makes the file at `path` (and its folder) from what `body` writes; replaces an older file only once everything
 * is on the disk. Errors: those of `body`, and `ERR_IO` naming the path.
 */
export async function writeAtomic<Result>(
  path: string,
  body: (write: WriteChunk, rewrite: RewriteBytes) => Promise<Result>,
): Promise<Result> {
  const folder = dirname(path)
  const partial = join(folder, `.${basename(path)}.${randomBytes(6).toString('hex')}${suffix}`)
  try {
    await mkdir(folder, { recursive: true })
    const file = await open(partial, 'wx')
    try {
      const put = async (bytes: Uint8Array, position: number): Promise<void> => {
        for (let offset = 0; offset < bytes.byteLength;) {
          const left = bytes.byteLength - offset
          const { bytesWritten } = await file.write(bytes, offset, left, position + offset)
          offset += bytesWritten
        }
      }
      let end = 0
      const result = await body(async (chunk) => {
        const bytes = typeof chunk === 'string' ? Buffer.from(chunk, 'utf8') : chunk
        const position = end
        end += bytes.byteLength
        await put(bytes, position)
      }, put)
      await file.sync()
      await file.close()
      await rename(partial, path)
      await syncFolder(folder)
      return result
    } catch (error) {
      await file.close().catch(() => undefined)
      throw error
    }
  } catch (error) {
    await rm(partial, { force: true }).catch(() => undefined)
    throw toPersonascopeError(error, path)
  }
}

/** {@link writeAtomic} of contents that are at hand. */
export async function writeFileAtomic(path: string, contents: string | Uint8Array): Promise<void> {
  await writeAtomic(path, (write) => write(contents))
}

/**
 * Removes what killed processes left unfinished in a folder (not below it), or of one of its files or folders only; a
 * missing folder is fine.
 */
export async function removePartials(folder: string, of?: string): Promise<void> {
  const names = await readdir(folder).catch(() => [])
  const [prefix, rest] = of === undefined ? ['.', /^/] : [`.${of}.`, /^[0-9a-f]{12}$/]
  const left = names.filter(
    (name) =>
      name.startsWith(prefix) &&
      name.endsWith(suffix) &&
      rest.test(name.slice(prefix.length, -suffix.length)),
  )
  await Promise.all(left.map((name) => rm(join(folder, name), { force: true, recursive: true })))
}

/** Makes a rename durable. Some file systems refuse to sync a folder; the file itself is safe then too. */
async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, 'r')
    await handle.sync().finally(() => handle.close())
  } catch {
    // The file is complete under its name; only its survival of a power cut is less certain.
  }
}
