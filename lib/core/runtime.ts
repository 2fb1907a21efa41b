import { native } from '../native.js'
import type { NativeDeviceInfo, NativeRuntimeInfo } from '../native.js'
import { version } from '../version.js'
import { callNative } from './task.js'

/** Instruction sets a kernel may be written for. Results are the same on all of them where a kernel says so. */
export type Isa = 'reference' | 'avx2' | 'avx512'

/** Threads that native kernels use, 1 to 1024. Results never depend on it. Default: all CPUs of this process. */
export function setThreads(threads: number): void {
  callNative(() => native.setThreads(threads))
}

/** Overrides the instruction set chosen at start (as PERSONASCOPE_ISA does); refused if the CPU lacks it. */
export function setIsa(isa: Isa): void {
  callNative(() => native.setIsa(isa))
}

/**
 * A shared library opened at run time; absent is normal. `usable`: it found a device. `reason`: what it found, or why it
 * is of no use.
 */
export interface PluginInfo {
  loaded: boolean
  usable: boolean
  reason: string
}

/** A GPU that can be used. Memory in bytes; `kernels` are those that run there. */
export type DeviceInfo = NativeDeviceInfo

export interface RuntimeInfo extends Omit<NativeRuntimeInfo, 'cuda'> {
  version: string
  node: string
  platform: string
  plugins: Record<'cuda' | 'mpi', PluginInfo>
  /** GPUs by number: the first is 'cuda:0'. Where there is none, the plugin's reason says why. */
  devices: DeviceInfo[]
}

/** What runs here: versions, the CPU and its features, the kernels chosen, threads, plugins and why one is absent. */
export function runtimeInfo(): RuntimeInfo {
  const { cuda: found, ...info } = callNative(() => native.runtimeInfo())
  const { devices, ...cuda } = found
  return {
    version,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    ...info,
    devices,
    plugins: {
      cuda,
      mpi: { loaded: false, usable: false, reason: 'not built: this version runs on one machine' },
    },
  }
}
