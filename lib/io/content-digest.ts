import { createHash } from 'node:crypto'
import { PersonascopeError } from '../core/errors.js'
import type { TaskOptions } from '../core/task.js'
import type { SafetensorsFile, TensorInfo } from './safetensors.js'

/** SHA-256 over what a safetensors file says: its metadata, and its tensors in the order of the file. */
export class ContentDigest {
  readonly #hash = createHash('sha256')

  /** Of the metadata, whatever the order of its entries. */
  constructor(metadata: Readonly<Record<string, string>>) {
    const entries = Object.entries(metadata).toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    this.#hash.update(JSON.stringify(entries))
  }

  /** Begins a tensor; its bytes follow. */
  tensor({ name, dtype, shape }: Pick<TensorInfo, 'name' | 'dtype' | 'shape'>): void {
    this.#hash.update(JSON.stringify([name, dtype, shape]))
  }

  bytes(bytes: Uint8Array): void {
    this.#hash.update(bytes)
  }

  /** Hexadecimal. */
  end(): string {
    return this.#hash.digest('hex')
  }
}

/** Where a file that was written with its content digest keeps it, among the metadata. */
export const DIGEST_KEY = 'sha256'

/** Whether a file says what it was written with; false also where it has no content digest. */
export async function isIntact(file: SafetensorsFile, options: TaskOptions = {}): Promise<boolean> {
  const { [DIGEST_KEY]: expected, ...metadata } = file.metadata
  const digest = new ContentDigest(metadata)
  for (const tensor of file.tensors.values()) {
    digest.tensor(tensor)
    for await (const piece of file.pieces(tensor.name, options))
      digest.bytes(new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength))
  }
  return digest.end() === expected
}

export const NOT_INTACT = 'its SHA-256 is not the one that it was written with'

/** `ERR_FORMAT` naming the file, with the hint, unless {@link isIntact}. */
export async function requireIntact(
  file: SafetensorsFile,
  hint: string,
  options: TaskOptions = {},
): Promise<void> {
  if (!(await isIntact(file, options)))
    throw new PersonascopeError('ERR_FORMAT', `${file.path}: ${NOT_INTACT}`, { hint })
}
