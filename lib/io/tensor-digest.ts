import { createHash } from 'node:crypto'
import { throwIfAborted, type TaskOptions } from '../core/task.js'
import type { SafetensorsFile, TensorArray, TensorSource } from './safetensors.js'

const block = 1 << 22

const byName = <Item>(entries: [string, Item][]): [string, Item][] =>
  entries.toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))

/** SHA-256 over what a safetensors file says (texts and tensors), whatever their order in the file. */
export async function tensorDigest(
  texts: Readonly<Record<string, string>>,
  tensors: readonly TensorSource[],
  task: TaskOptions = {},
): Promise<string> {
  const hash = createHash('sha256')
  hash.update(JSON.stringify(byName(Object.entries(texts))))
  for (const [name, { dtype, shape, data }] of byName(tensors.map((tensor) => [tensor.name, tensor]))) {
    hash.update(JSON.stringify([name, dtype, shape]))
    const pieces: Iterable<TensorArray> | AsyncIterable<TensorArray> =
      typeof data === 'function' ? data() : [data]
    for await (const piece of pieces)
      for (let offset = 0; offset < piece.byteLength; offset += block) {
        throwIfAborted(task)
        hash.update(
          new Uint8Array(piece.buffer, piece.byteOffset + offset, Math.min(block, piece.byteLength - offset)),
        )
        await new Promise(setImmediate) // large files must not hold up the event loop
      }
  }
  return hash.digest('hex')
}

/** {@link tensorDigest} of all tensors of a file, which do not stay in memory. */
export function fileDigest(
  texts: Readonly<Record<string, string>>,
  file: SafetensorsFile,
  task: TaskOptions = {},
): Promise<string> {
  const tensors = Array.from(file.tensors.values(), ({ name, dtype, shape }) => ({
    name,
    dtype,
    shape,
    data: () => file.pieces(name),
  }))
  return tensorDigest(texts, tensors, task)
}
