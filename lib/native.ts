/**
 * The addon's whole surface, typed by hand in this one place. Nothing outside lib/ sees it. Long calls take
 * {@link NativeJobOptions} last and return promises (see native/addon/job.h).
 */
import { createRequire } from 'node:module'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PersonascopeError } from './core/errors.js'
import type { NativeJobOptions } from './core/task.js'

export interface NativeRuntimeInfo {
  cpu: string
  cpuFeatures: string
  isa: 'reference' | 'avx2' | 'avx512'
  threads: number
}

/** native/addon/safetensors.cc */
export interface NativeSafetensorsFile {
  metadata(): [string, string][]
  tensors(): { name: string; dtype: string; shape: number[]; byteLength: number }[]
  bytes(): Uint8Array
  view(name: string): Float32Array | Uint32Array | Int32Array | Uint8Array
  readF32(name: string, options: NativeJobOptions): Promise<Float32Array>
}

export interface NativeAddon {
  runtimeInfo(): NativeRuntimeInfo
  setThreads(threads: number): void
  setIsa(isa: string): void
  SafetensorsFile: new (path: string) => NativeSafetensorsFile
  /** Index of the first NaN or infinity, or -1. */
  firstNonFinite(values: Float32Array): number
}

function load(): NativeAddon {
  const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
  const bindings = createRequire(import.meta.url)('bindings') as (options: object) => NativeAddon
  try {
    return bindings({ bindings: 'personascope', module_root: root })
  } catch (cause) {
    throw new PersonascopeError('ERR_NOT_FOUND', 'the native addon is not built, or not for this platform', {
      hint: `run "npm rebuild personascope" (or "npm run build:native" in ${root})`,
      cause,
    })
  }
}

export const native: NativeAddon = load()
