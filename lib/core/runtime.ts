import { native } from '../native.js'
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
