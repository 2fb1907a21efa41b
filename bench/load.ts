/** Opening an SAE, reading one decoder vector, and preparing it for encoding; each in a fresh process. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Times } from './contender.js'
import { runProgram, startWorker, withFolder } from './native.js'
import { median, significant, type BenchOptions, type LoadResult } from './results.js'

export async function loadBench(options: BenchOptions = {}): Promise<LoadResult> {
  const { n = 131_072, d = 1024, k = 64, threads = 1, rounds = 3 } = options
  const { data = 'sae-like', weights = 'bf16', precision = 'auto', onMessage } = options
  return withFolder(options, async (folder) => {
    onMessage?.(`making an SAE of ${n} latents of ${d} in ${weights}`)
    await runProgram('sae_data', [folder, data, ...[n, d, k].map(String), '256', weights, 'no-decoder'])
    const opened: (Times & { rssBytes: number })[] = []
    const vectors: number[] = []
    const prepared: (Times & { bytes: number })[] = []
    for (let turn = 0; turn < rounds; turn++) {
      const worker = await startWorker('sae', [folder, '256', precision], threads)
      try {
        opened.push(await worker.ask('open'))
        vectors.push((await worker.ask<{ seconds: number }>(`vector ${n - 1}`)).seconds)
        prepared.push(await worker.ask('prepare'))
      } finally {
        await worker.end()
      }
    }
    return {
      bench: 'load',
      n,
      d,
      weights,
      fileBytes: (await stat(join(folder, 'sae', 'sae.safetensors'))).size,
      openSeconds: significant(median(opened.map((open) => open.seconds))),
      openRssBytes: median(opened.map((open) => open.rssBytes)),
      decoderVectorSeconds: significant(median(vectors)),
      prepareSeconds: significant(median(prepared.map((one) => one.seconds))),
      preparedBytes: median(prepared.map((one) => one.bytes)),
    }
  })
}
