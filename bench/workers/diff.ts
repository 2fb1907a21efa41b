/**
 * Our side of the diff benches, through the public API, in a process of its own.
 * usage: diff.js FOLDER
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { ActivationStoreWriter, diffLatents, LatentStats, runtimeInfo, SparseCodes } from 'personascope'
import { answer, memory, timed, Watch } from './answer.js'

const [folder = ''] = process.argv.slice(2)
const watch = new Watch()
const fileOf = (model: string): string => join(folder, `${model}.safetensors`)

/** Codes of a prompt of 64 tokens and more: every latent is active in one of them, every second one in two. */
function codesOf(latents: number, prompt: number, seed: number): SparseCodes {
  const tokens = 64
  const indices: number[][] = Array.from({ length: 2 * tokens }, () => [])
  for (let latent = 0; latent < latents; latent++) {
    indices[latent % tokens]!.push(latent)
    if (latent % 2 === 0) indices[tokens + ((latent >> 1) % tokens)]!.push(latent)
  }
  const offsets = new Uint32Array(2 * tokens + 1)
  for (const [row, own] of indices.entries()) offsets[row + 1] = offsets[row]! + own.length
  const all = new Uint32Array(offsets.at(-1)!)
  for (const [row, own] of indices.entries()) all.set(own, offsets[row])
  // Of a linear congruential generator; exponential, so that sums need more than 24 bits.
  let state = (seed * 7919 + prompt) >>> 0
  const values = Float32Array.from(all, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return -Math.log(((state >>> 8) + 0.5) / 2 ** 24)
  })
  return new SparseCodes(latents, { indices: all, values, offsets })
}

const sequence = 128

/**
 * Two stores of `tokens` activations: those of x.f32 again and again, a little longer or shorter each time and in each
 * store. Sequences of 128 tokens, each a prompt of its own.
 */
async function writeStores(d: number, tokens: number): Promise<number> {
  const bytes = readFileSync(join(folder, 'x.f32'))
  const x = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
  const known = x.length / d
  for (const [number, model] of ['base', 'tuned'].entries()) {
    const writer = await ActivationStoreWriter.create(join(folder, model), {
      dModel: d,
      hook: { point: 'resid_post', layer: 0 },
    })
    for (let first = 0; first < tokens; first += sequence) {
      const rows = Math.min(sequence, tokens - first)
      const values = new Float32Array(rows * d)
      for (let row = 0; row < rows; row++) {
        const token = first + row
        const factor = 1 + 0.01 * Math.sin(1 + token + number)
        const from = (token % known) * d
        for (let i = 0; i < d; i++) values[row * d + i] = x[from + i]! * factor
      }
      await writer.append({
        values,
        rows,
        dModel: d,
        sequence: new Uint32Array(rows),
        position: Uint32Array.from({ length: rows }, (_, i) => i),
        tokens: Int32Array.from({ length: rows }, (_, i) => first + i),
      })
    }
    await writer.close()
  }
  return readdirSync(join(folder, 'base')).reduce(
    (sum, name) => sum + statSync(join(folder, 'base', name)).size,
    0,
  )
}

await answer(runtimeInfo(), {
  async stores([d = '0', tokens = '0']) {
    return { bytes: await writeStores(Number(d), Number(tokens)) }
  },
  /** Statistics of a model, written to a file. */
  async make([model = '', latents = '0', prompts = '0', seed = '0']) {
    const stats = new LatentStats(Number(latents), { perGroup: true })
    for (let prompt = 0; prompt < Number(prompts); prompt++) {
      const codes = codesOf(Number(latents), prompt, Number(seed))
      await stats.add(codes, { groups: new Uint32Array(codes.rows).fill(prompt) })
    }
    await stats.save(fileOf(model))
    return { bytes: statSync(fileOf(model)).size }
  },
  async diff([resamples = '0']) {
    const models: LatentStats[] = []
    const [load] = await timed(() =>
      watch.during(async () => {
        for (const model of ['base', 'tuned']) models.push(await LatentStats.load(fileOf(model)))
      }),
    )
    const [times, diff] = await timed(() =>
      watch.during(() => diffLatents(models[0]!, models[1]!, { bootstrap: Number(resamples) })),
    )
    const [best] = diff.top(1)
    return {
      ...times,
      loadSeconds: load.seconds,
      alive: diff.alive,
      best,
      peakRssBytes: memory()('VmHWM'),
      peakAnonymousBytes: watch.peakAnonymous,
    }
  },
})
