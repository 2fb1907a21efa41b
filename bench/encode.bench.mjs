/**
 * Fused exact top-k encoding against torch's fp32 linear + topk: the same data, the same machine, the same run, the two
 * alternating; medians of CPU time (with one thread) or wall time. Prints one JSON line:
 *
 *   {"bench": "encode", "latents", "width", "k", "tokens", "threads", "isa", "cpu", "seconds", "tokens_per_second",
 *    "gflops", "peak_gflops", "share_of_peak", "torch_seconds", "torch_tokens_per_second", "torch_chunk", "speedup",
 *    "same_sets", "clock"}
 *
 * Usage: node bench/encode.bench.mjs [--latents 131072] [--width 1024] [--k 64] [--tokens 512] [--threads 1]
 * [--rounds 5] [--python /usr/bin/python3] [--no-peer]. Needs CMake and a compiler; without torch the peer's fields are
 * null.
 */
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const { values: options } = parseArgs({
  options: {
    latents: { type: 'string', default: '131072' },
    width: { type: 'string', default: '1024' },
    k: { type: 'string', default: '64' },
    tokens: { type: 'string', default: '512' },
    threads: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '5' },
    python: { type: 'string', default: '/usr/bin/python3' },
    'no-peer': { type: 'boolean', default: false },
  },
})
const { latents, width, k, tokens, threads } = options

/** A process that answers one JSON line a command. */
async function contender(command, args, env = {}) {
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  })
  const ended = new Promise((_, reject) => {
    child.on('error', reject)
    child.on('exit', (code) => reject(new Error(`${command} ended with status ${code}`)))
  })
  ended.catch(() => {})
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const answer = async () => JSON.parse((await Promise.race([lines.next(), ended])).value)
  const hello = await answer()
  return {
    hello,
    ask: (line) => {
      child.stdin.write(`${line}\n`)
      return answer()
    },
    end: () => child.stdin.end(),
  }
}

const round = (value, digits) => (value === null ? null : Number(value.toFixed(digits)))
const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)]

const build = join(root, 'build-cmake')
const quiet = { stdio: ['ignore', 'ignore', 'inherit'] }
execFileSync(
  'cmake',
  ['-S', root, '-B', build, '-DCMAKE_BUILD_TYPE=Release', '-DPERSONASCOPE_BENCHES=ON'],
  quiet,
)
execFileSync('cmake', ['--build', build, '--target', 'encode_bench'], quiet)

const folder = mkdtempSync(join(tmpdir(), 'encode-bench-'))
try {
  const ours = await contender(join(build, 'encode_bench'), [folder, latents, width, k, tokens], {
    PERSONASCOPE_THREADS: threads,
  })
  const peer = options['no-peer']
    ? null
    : await contender(options.python, [
        join(root, 'bench', 'peers', 'encode.py'),
        folder,
        latents,
        width,
        k,
        tokens,
        threads,
      ]).catch(() => null)
  await ours.ask('encode')
  const chunk = peer === null ? null : (await peer.ask('chunks')).chunk
  // With one thread CPU time, which a busy neighbour does not lengthen.
  const clock = threads === '1' ? 'cpu_seconds' : 'seconds'
  const times = { ours: [], peer: [], peak: [] }
  let sameSets = null
  for (let turn = 0; turn < Number(options.rounds); turn++) {
    times.peak.push((await ours.ask('peak')).gflops)
    times.ours.push((await ours.ask('encode'))[clock])
    if (peer === null) continue
    const answer = await peer.ask('encode')
    times.peer.push(answer[clock])
    sameSets = answer.same_sets
  }
  times.peak.push((await ours.ask('peak')).gflops)
  ours.end()
  peer?.end()
  const seconds = median(times.ours)
  const peerSeconds = peer === null ? null : median(times.peer)
  const gflops = (2 * latents * width * tokens) / seconds / 1e9
  const peak = Math.max(...times.peak)
  console.log(
    JSON.stringify({
      bench: 'encode',
      latents: Number(latents),
      width: Number(width),
      k: Number(k),
      tokens: Number(tokens),
      threads: Number(threads),
      isa: ours.hello.isa,
      cpu: ours.hello.cpu,
      seconds: round(seconds, 4),
      tokens_per_second: round(tokens / seconds, 1),
      gflops: round(gflops, 1),
      peak_gflops: round(peak, 1),
      share_of_peak: round(gflops / peak, 3),
      torch_seconds: round(peerSeconds, 4),
      torch_tokens_per_second: peerSeconds === null ? null : round(tokens / peerSeconds, 1),
      torch_chunk: chunk,
      speedup: peerSeconds === null ? null : round(peerSeconds / seconds, 3),
      same_sets: sameSets,
      clock,
    }),
  )
} finally {
  rmSync(folder, { recursive: true, force: true })
}
