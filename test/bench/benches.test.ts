// Small runs of every bench; the peers may be absent. Timings are not looked at: the machine may be busy.
import { expect, test } from 'vitest'
import { runBench } from '../../bench/index.js'
import { Rounds } from '../../bench/peers.js'

// The first run builds bench/native.
const minutes = 10 * 60_000

test(
  'encode: no token is wrong, peers are compared or absent with a reason',
  async () => {
    for (const data of ['sae-like', 'gaussian'] as const) {
      const shape = { n: 3000, d: 96, k: 20, tokens: 48, checkTokens: 48 }
      const [result] = await runBench('encode', { ...shape, data, rounds: 1, peers: ['numpy', 'none'] })
      expect(result).toMatchObject({ bench: 'encode', data, n: 3000, d: 96, k: 20, tokens: 48 })
      expect(result).toMatchObject({ checkedTokens: 48, wrongTokens: 0, wrongValues: 0 })
      expect(result!.absent['none']).toMatch(/encode\.py none/)
      expect(result!.ratio['none']).toBeNull()
      const numpy = result!.peers['numpy']
      expect(numpy?.wrongTokens ?? 0).toBe(0)
      // Timed, or absent with the way to install it.
      expect(numpy === undefined ? result!.absent['numpy'] : `${result!.ratio['numpy']}`).toMatch(
        /apt-get install python3-numpy|^[\d.]+$/,
      )
      expect(result!.peakFraction).toBeGreaterThan(0)
      expect(result!.peakRssBytes).toBeGreaterThan(result!.peakAnonymousBytes)
    }
  },
  minutes,
)

test(
  'decode, stats and steer agree with the peers',
  async () => {
    const shape = { n: 2000, d: 80, k: 9, tokens: 50, rounds: 1 }
    for (const weights of ['f32', 'bf16'] as const)
      for (const kernel of ['decode', 'stats', 'steer'] as const) {
        const results = await runBench(kernel, { ...shape, weights, peers: ['numpy'] })
        expect(results).toHaveLength(kernel === 'steer' ? 4 : 1)
        for (const result of results) {
          expect(result.peakFraction).toBeGreaterThan(0)
          expect(result.difference ?? 0).toBeLessThan(1e-5)
          expect(typeof result.costOverEncode).toBe(kernel === 'stats' ? 'number' : 'object')
        }
      }
  },
  minutes,
)

test(
  'load and call',
  async () => {
    const [load] = await runBench('load', { n: 4096, d: 64, rounds: 1 })
    expect(load!.fileBytes).toBeGreaterThan(2 * 4096 * 64 * 2)
    expect(load!.openSeconds).toBeGreaterThan(0)
    const calls = await runBench('call', { rounds: 2 })
    expect(calls.map(({ overheadMicroseconds }) => overheadMicroseconds > 0)).toEqual(calls.map(() => true))
  },
  minutes,
)

test(
  'diff resumes to the same bytes, and bootstrap takes every latent',
  async () => {
    const [diff] = await runBench('diff', { n: 4096, d: 64, k: 16, tokens: 1000, rounds: 1 })
    expect(diff).toMatchObject({ tokens: 1000, resumedEqual: true })
    expect(diff!.storeBytes).toBeGreaterThan(1000 * 64 * 4)
    expect(diff!.shareOfEncode).toBeGreaterThan(0)
    const [bootstrap] = await runBench('bootstrap', { n: 3000 })
    expect(bootstrap).toMatchObject({ n: 3000, prompts: 44, resamples: 1000 })
    expect(bootstrap!.peakAnonymousBytes).toBeLessThan(bootstrap!.peakRssBytes)
  },
  minutes,
)

test('a ratio is the median of the rounds, by the clock asked for', () => {
  const rounds = new Rounds('cpuSeconds')
  for (const [ours, theirs] of [
    [1, 2],
    [2, 10],
    [1, 3],
  ])
    rounds.add({ seconds: 9, cpuSeconds: ours! }, { seconds: 1, cpuSeconds: theirs! })
  expect(rounds.ratio).toBe(3)
  expect(rounds.peer('x 1', 6, null)).toMatchObject({ version: 'x 1', seconds: 3, tokensPerSecond: 2 })
})
