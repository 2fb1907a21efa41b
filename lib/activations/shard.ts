/** One file of activations with what is known of its rows; see format.ts. */
import { PersonascopeError } from '../core/errors.js'
import { callNative, type TaskOptions } from '../core/task.js'
import { fileSha256 } from '../io/blocks.js'
import { SafetensorsFile } from '../io/safetensors.js'
import { native, type NativeTensor } from '../native.js'
import { INDEX_FILE, ROLES } from './format.js'

/** What the store knows of a shard before it is opened. */
export interface ShardEntry {
  path: string
  rows: number
  firstRow: number
  /** Number of its first sequence, for files that do not number theirs. */
  firstSequence: number
  /** Of the whole file; unknown for files of other programs. */
  sha256?: string | undefined
  /** For files that hold activations and nothing else: they, and whether they lie in a mapped file. */
  bare?: { activations: NativeTensor; mapped: boolean } | undefined
}

export interface Shard extends ShardEntry {
  /** [rows, dModel] */
  activations: NativeTensor
  /**
   * What becomes of rows that were read in their order. Those of a mapped file leave this process; where the file was not
   * in the system's memory before, it is not after: reading a large store displaces nothing there.
   */
  after: 'keep' | 'unmap' | 'evict'
  /** −1 where unknown. */
  tokens: Int32Array
  hasTokens: boolean
  position: Uint32Array
  /** [s + 1] */
  offsets: Uint32Array
  /** Expanded over rows: the sequence and the prompt of each. */
  sequence: Uint32Array
  prompt: Uint32Array
  roles: Uint8Array | undefined
}

const floats = new Set(['F32', 'F16', 'BF16', 'F64'])
const integers = new Set(['I32', 'U32', 'I64', 'U64'])

/** The tensor that holds the activations: the one of that name, or the only 2-D one of floating point numbers. */
export function findActivations<Tensor extends { dtype: string; shape: readonly number[] }>(file: {
  path: string
  tensors: ReadonlyMap<string, Tensor>
}): Tensor {
  const named = file.tensors.get('activations')
  const candidates =
    named === undefined
      ? [...file.tensors.values()].filter(({ dtype, shape }) => shape.length === 2 && floats.has(dtype))
      : [named]
  const [found] = candidates
  if (
    candidates.length !== 1 ||
    found === undefined ||
    found.shape.length !== 2 ||
    !floats.has(found.dtype)
  ) {
    const there = [...file.tensors]
      .slice(0, 8)
      .map(([name, { dtype, shape }]) => `${name} ${dtype} [${shape.join(', ')}]`)
    throw new PersonascopeError(
      'ERR_FORMAT',
      `${file.path}: found ${there.join('; ') || 'no tensors'}, expected 'activations' [rows, dModel] of F32, F16, BF16 or F64`,
    )
  }
  return found
}

/** Sequences of a file: its `offsets`, or one a row. Reads the header only. */
export function countSequences(file: SafetensorsFile, rows: number): number {
  const offsets = file.tensors.get('offsets')
  return offsets === undefined ? rows : Math.max(0, (offsets.shape[0] ?? 1) - 1)
}

/** Opens a shard and reads what describes its rows; the activations themselves stay where they are. */
export function openShard(entry: ShardEntry, dModel: number): Shard {
  const { path, rows } = entry
  if (entry.bare !== undefined) return bareShard(entry, entry.bare)
  const file = SafetensorsFile.open(path)
  const activations = findActivations(file)
  const bad = (what: string): PersonascopeError => new PersonascopeError('ERR_FORMAT', `${path}: ${what}`)
  if (activations.shape[0] !== rows || activations.shape[1] !== dModel)
    throw bad(
      `tensor '${activations.name}' has shape [${activations.shape.join(', ')}], expected [${rows}, ${dModel}]`,
    )
  const offsets = file.tensors.has('offsets') ? readIntegers(file, 'offsets') : counting(rows + 1, 0)
  const sequences = Math.max(0, offsets.length - 1)
  const divides =
    offsets[0] === 0 &&
    offsets[sequences] === rows &&
    offsets.every((offset, i) => i === 0 || offset >= offsets[i - 1]!)
  if (!divides) throw bad(`tensor 'offsets' does not divide its ${rows} rows`)
  const numbers = file.tensors.has('sequences')
    ? readIntegers(file, 'sequences', sequences)
    : counting(sequences, entry.firstSequence)
  const prompts = file.tensors.has('prompts') ? readIntegers(file, 'prompts', sequences) : numbers
  const hasTokens = file.tensors.has('tokens')
  const tensor = file.tensor(activations.name)
  return {
    ...entry,
    activations: tensor,
    after: afterReading(tensor),
    hasTokens,
    tokens: hasTokens ? Int32Array.from(readIntegers(file, 'tokens', rows)) : new Int32Array(rows).fill(-1),
    position: file.tensors.has('position')
      ? readIntegers(file, 'position', rows)
      : expand(offsets, rows, (_, out, begin, end) => {
          for (let row = begin; row < end; row++) out[row] = row - begin
        }),
    offsets,
    sequence: expand(offsets, rows, (i, out, begin, end) => out.fill(numbers[i]!, begin, end)),
    prompt: expand(offsets, rows, (i, out, begin, end) => out.fill(prompts[i]!, begin, end)),
    roles: file.tensors.has('roles') ? readRoles(file, rows) : undefined,
  }
}

/** To be asked before anything is read of a mapped tensor. */
function afterReading(mapped: NativeTensor): 'unmap' | 'evict' {
  return callNative(() => native.rowsInMemory(mapped)) ? 'unmap' : 'evict'
}

/** Every row is a sequence of its own. */
function bareShard(entry: ShardEntry, bare: NonNullable<ShardEntry['bare']>): Shard {
  const { rows, firstSequence } = entry
  const sequence = counting(rows, firstSequence)
  return {
    ...entry,
    activations: bare.activations,
    after: bare.mapped ? afterReading(bare.activations) : 'keep',
    hasTokens: false,
    tokens: new Int32Array(rows).fill(-1),
    position: new Uint32Array(rows),
    offsets: counting(rows + 1, 0),
    sequence,
    prompt: sequence,
    roles: undefined,
  }
}

/** Checks a shard against the SHA-256 of the index, off the memory that is mapped. */
export async function verifyShard({ path, sha256 }: ShardEntry, options: TaskOptions): Promise<void> {
  if (sha256 === undefined || (await fileSha256(path, options)) === sha256) return
  throw new PersonascopeError('ERR_FORMAT', `${path}: its SHA-256 is not the one in ${INDEX_FILE}`, {
    hint: 'the file was changed or damaged; capture the activations again',
  })
}

/** first, first + 1, …; a plain loop, as there may be millions. */
function counting(length: number, first: number): Uint32Array {
  const numbers = new Uint32Array(length)
  for (let i = 0; i < length; i++) numbers[i] = first + i
  return numbers
}

function expand(
  offsets: Uint32Array,
  rows: number,
  fill: (sequence: number, out: Uint32Array, begin: number, end: number) => void,
): Uint32Array {
  const out = new Uint32Array(rows)
  for (let i = 0; i + 1 < offsets.length; i++) fill(i, out, offsets[i]!, offsets[i + 1]!)
  return out
}

/** A 1-D tensor of whole numbers below 2^32, 64-bit ones included. */
function readIntegers(file: SafetensorsFile, name: string, length?: number): Uint32Array {
  const { dtype, shape } = file.require(name, length === undefined ? undefined : [length])
  const bad = (what: string): PersonascopeError =>
    new PersonascopeError('ERR_FORMAT', `${file.path}: tensor '${name}' ${what}`)
  if (!integers.has(dtype) || shape.length !== 1)
    throw bad(`is ${dtype} [${shape.join(', ')}], expected one dimension of I32, U32, I64 or U64`)
  const view = file.view(name)
  if (view instanceof Uint32Array) return view
  const numbers = new Uint32Array(view.length)
  for (let i = 0; i < view.length; i++) {
    const value = Number(view[i])
    if (value < 0 || value > 0xffff_ffff)
      throw bad(`holds ${String(view[i])} at ${i}, expected 0 to 4294967295`)
    numbers[i] = value
  }
  return numbers
}

const mostRole = Math.max(...Object.values(ROLES))

function readRoles(file: SafetensorsFile, rows: number): Uint8Array {
  const { dtype } = file.require('roles', [rows])
  if (dtype !== 'U8')
    throw new PersonascopeError('ERR_FORMAT', `${file.path}: tensor 'roles' is of ${dtype}, expected U8`)
  const roles = file.view('roles') as Uint8Array
  const wrong = roles.findIndex((role) => role > mostRole)
  if (wrong >= 0)
    throw new PersonascopeError(
      'ERR_FORMAT',
      `${file.path}: tensor 'roles': found ${roles[wrong]} at row ${wrong}, expected 0 to ${mostRole}`,
    )
  return roles
}
