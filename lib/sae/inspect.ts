/** What an SAE on disk is, and whether it is sound, in one pass over its weights and bounded memory. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { runNative, type TaskOptions } from '../core/task.js'
import { TensorFile } from '../io/tensor-file.js'
import { hookName } from '../models/hook.js'
import { findSae } from './formats/index.js'
import type { SaeSpec, WeightSource } from './spec.js'

export interface InspectedSae {
  kind: 'sae'
  format: string
  architecture: string
  dModel: number
  dOut: number
  layers: number
  latents: number
  /** Of the weights, as they lie in the file. */
  dtype: string
  rule: string
  k: number | null
  /** Smallest and largest. */
  threshold: [number, number] | null
  inputNorm: string
  subtractDecoderBias: boolean
  model: string | null
  hook: string | null
  /** Latents whose encoder or decoder vector is all zeros. */
  dead: number
  problems: string[]
}

/** Errors: those of reading. What is wrong with the values is told in `problems`. */
export async function inspectSae(path: string, options: TaskOptions = {}): Promise<InspectedSae> {
  const { format, spec } = await findSae(path, options)
  const problems: string[] = []
  await checkArchives(path, problems, options)
  const dead = new Set<number>()
  for (const [name, source, width] of [
    ['W_enc', spec.wEnc, spec.dModel],
    ['W_dec', spec.wDec, spec.dOut ?? spec.dModel],
  ] as const) {
    const norms = await normsOf(source, width, { ...options })
    const broken = norms.findIndex((norm) => !Number.isFinite(norm))
    if (broken >= 0) problems.push(`${name}: NaN or infinity in latent ${broken}`)
    for (const [latent, norm] of norms.entries()) if (norm === 0) dead.add(latent)
  }
  for (const [name, values] of vectorsOf(spec)) {
    const broken = values.findIndex((value) => !Number.isFinite(value))
    if (broken >= 0) problems.push(`${name}: ${values[broken]} at ${broken}`)
  }
  const { selection, metadata } = spec
  return {
    kind: 'sae',
    format,
    architecture: spec.architecture,
    dModel: spec.dModel,
    dOut: spec.dOut ?? spec.dModel,
    layers: spec.layers ?? 1,
    latents: spec.latents,
    dtype: spec.wEnc instanceof Float32Array ? 'F32' : spec.wEnc.dtype,
    rule: selection.rule,
    k: 'k' in selection ? selection.k : null,
    threshold: selection.rule === 'threshold' ? rangeOf(selection.threshold) : null,
    inputNorm: spec.inputNorm,
    subtractDecoderBias: spec.subtractDecoderBias,
    model: metadata.modelName ?? null,
    hook: metadata.hook === undefined ? null : hookName(metadata.hook),
    dead: dead.size,
    problems,
  }
}

async function normsOf(source: WeightSource, width: number, options: TaskOptions): Promise<Float32Array> {
  if (!(source instanceof Float32Array)) return runNative(options, 'latents', (job) => source.rowNorms(job))
  return Float32Array.from({ length: source.length / width }, (_, row) =>
    Math.sqrt(source.subarray(row * width, (row + 1) * width).reduce((sum, value) => sum + value * value, 0)),
  )
}

function vectorsOf({ bEnc, bDec, selection }: SaeSpec): [string, Float32Array][] {
  const vectors: [string, Float32Array][] = [
    ['b_enc', bEnc],
    ['b_dec', bDec],
  ]
  if (selection.rule === 'threshold' && typeof selection.threshold !== 'number')
    vectors.push(['threshold', selection.threshold])
  if (selection.rule === 'gated')
    vectors.push(
      ['gate bias', selection.gateBias],
      ['magnitude scale', selection.magnitudeScale],
      ['magnitude bias', selection.magnitudeBias],
    )
  return vectors
}

function rangeOf(threshold: number | Float32Array): [number, number] {
  if (typeof threshold === 'number') return [threshold, threshold]
  return [threshold.reduce((a, b) => Math.min(a, b)), threshold.reduce((a, b) => Math.max(a, b))]
}

/** .pt and .npz files state checksums, which reading tensor by tensor does not look at. */
async function checkArchives(path: string, problems: string[], options: TaskOptions): Promise<void> {
  const folder = (await stat(path)).isDirectory()
  const files = folder ? (await readdir(path)).map((name) => join(path, name)) : [path]
  for (const file of files.filter((name) => /\.(pt|npz)$/.test(name)))
    try {
      await (await TensorFile.open(file, options)).verify({ signal: options.signal })
    } catch (error) {
      if (options.signal?.aborted) throw error
      problems.push((error as Error).message)
    }
}
