/** The native programs of the benches (bench/native), built when first needed, and where things lie. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Contender } from './contender.js'
import type { BenchOptions, Peaks } from './results.js'

/** Rows of activations from which an SAE is prepared, also where fewer are encoded. */
export const calibrationRows = 256

const run = promisify(execFile)

/** The package's folder: this file runs from bench/ or, compiled, from dist/bench/. */
export const root = ((): string => {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json'))) folder = resolve(folder, '..')
  return folder
})()

const build = process.env['PERSONASCOPE_BENCH_BUILD'] ?? join(root, 'build-cmake')
let built: Promise<void> | undefined

/** Path of a program of bench/native. Needs CMake and a C++20 compiler. */
export async function program(name: string): Promise<string> {
  built ??= (async () => {
    const options = ['-DCMAKE_BUILD_TYPE=Release', '-DPERSONASCOPE_BENCHES=ON']
    await run('cmake', ['-S', root, '-B', build, ...options])
    await run('cmake', ['--build', build, '--target', 'benches', '--parallel'], { maxBuffer: 1 << 28 })
  })()
  await built
  return join(build, name)
}

export async function runProgram(name: string, args: readonly string[], threads?: number): Promise<string> {
  const env = threads === undefined ? process.env : { ...process.env, PERSONASCOPE_THREADS: String(threads) }
  const { stdout } = await run(await program(name), args, { env, maxBuffer: 1 << 24 })
  return stdout
}

/** A worker of bench/workers: a node process of its own, so that its memory and CPU time are its own too. */
export async function startWorker<Hello>(
  name: string,
  args: readonly string[],
  threads: number,
): Promise<Contender<Hello>> {
  const script = join(root, 'dist', 'bench', 'workers', `${name}.js`)
  return Contender.start(process.execPath, ['--expose-gc', script, ...args], {
    PERSONASCOPE_THREADS: String(threads),
  })
}

/** A folder for one bench's data, deleted after. */
export async function withFolder<Result>(
  options: BenchOptions,
  work: (folder: string) => Promise<Result>,
): Promise<Result> {
  const folder = await mkdtemp(join(options.folder ?? tmpdir(), 'personascope-bench-'))
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

interface Measured {
  fp32Gflops: number
  bf16Gflops: number
  int8Gops: number
  readGBs: number
  copyGBs: number
}

/** A rate of 0 stands for instructions that the CPU has not. */
function asPeaks({ fp32Gflops, bf16Gflops, int8Gops, readGBs, copyGBs }: Measured): Peaks {
  return {
    fp32Gflops: fp32Gflops || null,
    bf16Gflops: bf16Gflops || null,
    int8Gops: int8Gops || null,
    readGBs,
    copyGBs,
  }
}

/** The machine's peaks, measured again and again during a run; the largest ones count. */
export class PeakMeter {
  #best: Measured = { fp32Gflops: 0, bf16Gflops: 0, int8Gops: 0, readGBs: 0, copyGBs: 0 }

  private constructor(readonly contender: Contender<{ isa: string; cpu: string }>) {}

  static async start(threads: number): Promise<PeakMeter> {
    return new PeakMeter(
      await Contender.start(await program('peaks'), [], { PERSONASCOPE_THREADS: String(threads) }),
    )
  }

  /** What the machine reaches now. */
  async measure(): Promise<Peaks> {
    const now = await this.contender.ask<Measured>('peak 0.05')
    for (const name of Object.keys(this.#best) as (keyof Measured)[])
      this.#best[name] = Math.max(this.#best[name], now[name])
    return asPeaks(now)
  }

  get peaks(): Peaks {
    return asPeaks(this.#best)
  }

  end(): Promise<void> {
    return this.contender.end()
  }
}
