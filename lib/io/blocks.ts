/** Files read a block at a time, past any mapping of them: what was read does not stay resident. */
import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { PersonascopeError, toPersonascopeError } from '../core/errors.js'
import { throwIfAborted, type TaskOptions } from '../core/task.js'

// Into the same block again and again: it stays in the cache.
const blockBytes = 1 << 20

/**
 * Bytes `begin` to `end` (default: all) of a file, in blocks of 1 MiB and a last one of the rest; each lasts until the
 * next. Errors: `ERR_NOT_FOUND`, `ERR_IO`, `ERR_FORMAT` where the file ends before `end`.
 */
export async function* readBlocks(
  path: string,
  { begin = 0, end, signal }: { begin?: number; end?: number; signal?: AbortSignal | undefined } = {},
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  const block = new Uint8Array(new ArrayBuffer(Math.min(blockBytes, (end ?? Infinity) - begin)))
  const file = await open(path, 'r').catch((error: unknown) => {
    throw toPersonascopeError(error, path)
  })
  const fill = async (position: number, length: number): Promise<number> => {
    let filled = 0
    while (filled < length) {
      const { bytesRead } = await file.read(block, filled, length - filled, position + filled)
      if (bytesRead === 0) break
      filled += bytesRead
    }
    return filled
  }
  try {
    for (let position = begin; position < (end ?? Infinity);) {
      throwIfAborted({ signal })
      const length = Math.min(block.byteLength, (end ?? Infinity) - position)
      const filled = await fill(position, length).catch((error: unknown) => {
        throw toPersonascopeError(error, path)
      })
      if (filled < length && end !== undefined)
        throw new PersonascopeError('ERR_FORMAT', `${path}: ends at byte ${position + filled} of ${end}`)
      if (filled > 0) yield block.subarray(0, filled)
      if (filled < length) return
      position += filled
    }
  } finally {
    await file.close()
  }
}

/** SHA-256 of a whole file, hexadecimal. Errors: `ERR_NOT_FOUND`, `ERR_IO`. */
export async function fileSha256(path: string, options: TaskOptions = {}): Promise<string> {
  const hash = createHash('sha256')
  for await (const block of readBlocks(path, { signal: options.signal })) hash.update(block)
  return hash.digest('hex')
}
