/** Any SAE format to a SAELens folder, without loading the SAE. */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rename, rm, rmdir } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { PersonascopeError, toPersonascopeError } from '../core/errors.js'
import { callNative, runNative, type TaskOptions } from '../core/task.js'
import { removePartials } from '../io/atomic.js'
import { findSae } from './formats/index.js'
import { architectureOf, writeSaeLens, type WeightPieces } from './formats/saelens-writer.js'
import type { SaeSpec, WeightSource } from './spec.js'

export interface ConvertedSae {
  /** Format of the input. */
  from: string
  /** SAELens' name of the architecture that was written. */
  architecture: string
  dModel: number
  latents: number
  out: string
}

/**
 * Reads the SAE at `path` and writes it as a new SAELens folder (fp32). Memory is bounded: weights go through piece by
 * piece. The folder appears whole or not at all. Errors: those of reading; `ERR_INVALID_ARGUMENT` for what SAELens
 * cannot express, and for a folder that holds something; `ERR_NON_FINITE` naming the tensor; `ERR_IO`.
 */
export async function convertSae(
  path: string,
  out: string,
  options: TaskOptions = {},
): Promise<ConvertedSae> {
  const target = resolve(out)
  const there = await readdir(target).catch(() => [])
  if (there.length > 0)
    throw new PersonascopeError(
      'ERR_INVALID_ARGUMENT',
      `${out}: holds ${there.length} files, expected a new folder`,
      {
        hint: 'choose another folder, or empty this one',
      },
    )
  await removePartials(dirname(target), basename(target))
  const { format, spec } = await findSae(path, options)
  const weights = piecesOf(spec, path)
  const architecture = architectureOf(spec, weights.skip !== undefined)
  const partial = join(dirname(target), `.${basename(target)}.${randomBytes(6).toString('hex')}.partial`)
  try {
    await mkdir(dirname(target), { recursive: true })
    await writeSaeLens(partial, spec, weights, options)
    await rmdir(target).catch(() => undefined) // an empty folder may be in the way
    await rename(partial, target)
  } catch (error) {
    await rm(partial, { recursive: true, force: true })
    throw toPersonascopeError(error, out)
  }
  return { from: format, architecture, dModel: spec.dModel, latents: spec.latents, out }
}

function piecesOf(spec: SaeSpec, path: string): WeightPieces {
  const { wEnc, wDec, wSkip, bEnc, bDec } = spec
  const columns = wEnc instanceof Float32Array ? undefined : callNative(() => wEnc.transpose())
  return {
    from: path,
    encoderColumns: (begin, end) => rowsOf(columns ?? wEnc, begin, end, spec.dModel),
    decoderRows: (begin, end) => rowsOf(wDec, begin, end, spec.dOut ?? spec.dModel),
    encoderBias: () => bEnc,
    decoderBias: () => bDec,
    ...(wSkip === undefined
      ? {}
      : {
          skip: async () =>
            wSkip instanceof Float32Array ? wSkip : runNative({}, 'values', (job) => wSkip.readF32(job)),
        }),
  }
}

function rowsOf(source: WeightSource, begin: number, end: number, width: number): Float32Array {
  if (source instanceof Float32Array) return source.subarray(begin * width, end * width)
  return callNative(() => source.rowsF32(begin, end))
}
