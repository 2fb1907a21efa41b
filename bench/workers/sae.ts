/**
 * Our side of the encode and load benches, through the public API, in a process of its own.
 * usage: sae.js FOLDER TOKENS PRECISION; FOLDER is what bench/native/sae_data.cc wrote.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LatentStats, Sae, runtimeInfo, type SparseCodes } from 'personascope'
import { calibrationRows } from '../native.js'
import { answer, memory, timed, Watch } from './answer.js'

type Precision = 'auto' | 'fp32' | 'bf16' | 'int8'

const [folder = '', tokenText = '0', precision = 'auto'] = process.argv.slice(2)
const tokens = Number(tokenText)
const options = { precision: precision as Precision }
let sae: Sae | undefined
let stats: LatentStats | undefined
let codes: SparseCodes | undefined
const watch = new Watch()

function loaded(): Sae {
  if (sae === undefined) throw new Error('the SAE is not open yet')
  return sae
}

let held: Float32Array | undefined
/** All rows of the file. */
function rows(): Float32Array {
  if (held === undefined) {
    const bytes = readFileSync(join(folder, 'x.f32'))
    held = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
  }
  return held
}

const inputs = (): Float32Array => rows().subarray(0, tokens * loaded().dModel)

await answer(runtimeInfo(), {
  async open() {
    const before = memory()('VmRSS')
    const [times, made] = await timed(() => Sae.load(join(folder, 'sae'), options))
    sae = made
    return { ...times, rssBytes: memory()('VmRSS') - before }
  },
  async vector([latent = '0']) {
    const start = performance.now()
    const vector = loaded().decoderVector(Number(latent))
    return { seconds: (performance.now() - start) / 1000, width: vector.length }
  },
  async prepare() {
    const before = memory()('RssAnon')
    const calibration = rows().subarray(0, calibrationRows * loaded().dModel)
    const [times] = await timed(() => watch.during(() => loaded().prepare({ calibration })))
    return { ...times, bytes: memory()('RssAnon') - before }
  },
  /** 'watched': its memory is looked at meanwhile, which takes time itself. */
  async encode([how = '']) {
    const values = inputs()
    const work = () => loaded().encode(values)
    codes = undefined
    globalThis.gc?.()
    const [times, made] = await timed(() => (how === 'watched' ? watch.during(work) : work()))
    codes = made
    return { ...times, ...made.report }
  },
  /** Encodes into statistics, without codes. */
  async collect() {
    const values = inputs()
    stats ??= new LatentStats(loaded().latents)
    const into = stats
    const [times] = await timed(() => into.addActivations(loaded(), { values }))
    return times
  },
  async write([name = 'ours']) {
    if (codes === undefined) throw new Error('nothing is encoded yet')
    const { k } = loaded()
    const indices = new Uint32Array(tokens * k)
    const values = new Float32Array(tokens * k)
    const counts = new Uint32Array(tokens)
    for (let row = 0; row < tokens; row++) {
      const begin = codes.offsets[row]!
      const end = codes.offsets[row + 1]!
      counts[row] = end - begin
      indices.set(codes.indices.subarray(begin, end), row * k)
      values.set(codes.values.subarray(begin, end), row * k)
    }
    writeFileSync(join(folder, `${name}.indices.u32`), indices)
    writeFileSync(join(folder, `${name}.values.f32`), values)
    writeFileSync(join(folder, `${name}.counts.u32`), counts)
    return { rows: tokens }
  },
  async memory() {
    watch.look()
    return { peakRssBytes: memory()('VmHWM'), peakAnonymousBytes: watch.peakAnonymous }
  },
})
