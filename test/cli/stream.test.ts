/** `encode`, `stats` and `diff` on stores and an SAE made here; references are computed in plain float64. */
import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { parquetReadObjects } from 'hyparquet'
import { beforeEach, describe, expect, it } from 'vitest'
import { encodeStore } from '../../lib/activations/encode-store.js'
import { ROLES } from '../../lib/activations/format.js'
import { ActivationStore } from '../../lib/activations/store.js'
import { ActivationStoreWriter } from '../../lib/activations/writer.js'
import { Random } from '../../lib/core/random.js'
import type { TaskOptions } from '../../lib/core/task.js'
import { collectStats } from '../../lib/diffing/collect.js'
import { LatentStats } from '../../lib/diffing/latent-stats.js'
import { inspectPath } from '../../lib/inspect.js'
import { SafetensorsFile, writeSafetensors } from '../../lib/io/safetensors.js'
import { Sae } from '../../lib/sae/sae.js'
import { temporaryFolder } from '../io/temporary-folder.js'
import { cli } from './run.js'

const dModel = 24
const latents = 80
const k = 6
const prompts = 30
const tokensPerPrompt = 12
const rows = prompts * tokensPerPrompt
const planted = 17

function normal(count: number, seed: number): Float32Array {
  const random = new Random(seed)
  return Float32Array.from({ length: count }, () => random.gaussian())
}

const directions = normal(latents * dModel, 1)

/** The last four tokens of a prompt are the assistant's; `shift` moves these along latent 17's encoder. */
function activationsOf(seed: number, shift: number): Float32Array {
  const values = normal(rows * dModel, seed)
  for (let row = 0; row < rows; row++)
    if (row % tokensPerPrompt >= 8)
      for (let i = 0; i < dModel; i++) values[row * dModel + i]! += shift * directions[planted * dModel + i]!
  return values
}

async function writeStore(folder: string, values: Float32Array, token = 0): Promise<void> {
  const writer = await ActivationStoreWriter.create(folder, {
    dModel,
    hook: { point: 'resid_post', layer: 3 },
    shardBytes: 100 * dModel * 4,
  })
  for (let prompt = 0; prompt < prompts; prompt++) {
    const first = prompt * tokensPerPrompt
    const positions = Uint32Array.from({ length: tokensPerPrompt }, (_, i) => i)
    await writer.append({
      values: values.subarray(first * dModel, (first + tokensPerPrompt) * dModel),
      rows: tokensPerPrompt,
      dModel,
      sequence: new Uint32Array(tokensPerPrompt),
      position: positions,
      tokens: Int32Array.from(positions, (position) => prompt * 50 + position + token),
      roles: Uint8Array.from(positions, (position) => (position < 8 ? ROLES.user : ROLES.assistant)),
      prompts: Uint32Array.of(1000 + prompt),
    })
  }
  await writer.close()
}

let folder: string
let sae: Sae
const at = (name: string): string => join(folder, name)

beforeEach(async () => {
  folder = await temporaryFolder()
  sae = Sae.fromWeights({
    dModel,
    latents,
    k,
    wEnc: directions,
    wDec: directions,
    bEnc: new Float32Array(latents),
    bDec: new Float32Array(dModel),
  })
  await sae.save(at('sae'))
  await writeStore(at('base'), activationsOf(2, 0))
  await writeStore(at('tuned'), activationsOf(3, 0.6))
})

async function readTable(path: string): Promise<Record<string, number | null>[]> {
  const bytes = await readFile(path)
  return (await parquetReadObjects({
    file: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength),
  })) as Record<string, number | null>[]
}

describe('encode', () => {
  it('writes the codes that the SAE gives, [tokens, k] where all have as many', async () => {
    const { code, stdout } = await cli(
      'encode',
      '--sae',
      at('sae'),
      '--activations',
      at('base'),
      '-o',
      at('codes.safetensors'),
      '--json',
    )
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ latents, tokens: rows, k })
    const file = SafetensorsFile.open(at('codes.safetensors'))
    const codes = await sae.encode(activationsOf(2, 0))
    expect(file.u32('indices', [rows, k])).toEqual(codes.indices)
    expect(await file.f32('values', { shape: [rows, k] })).toEqual(codes.values)
    expect([...file.tensors.keys()].toSorted()).toEqual(['indices', 'values'])
    expect(file.metadata).toMatchObject({ format: 'personascope-codes', version: '2' })
    expect((await readdir(folder)).toSorted()).toEqual(['base', 'codes.safetensors', 'sae', 'tuned'])
  })

  it('writes offsets where the count varies, and encodes only the tokens asked for', async () => {
    // Rows of zeros have no positive pre-activation.
    const values = activationsOf(2, 0)
    values.fill(0, 5 * dModel, 7 * dModel)
    await writeSafetensors(at('bare.safetensors'), [
      { name: 'x', dtype: 'F32', shape: [rows, dModel], data: values },
    ])
    const { code } = await cli(
      'encode',
      '--sae',
      at('sae'),
      '--activations',
      at('bare.safetensors'),
      '-o',
      at('c.safetensors'),
    )
    expect(code).toBe(0)
    const file = SafetensorsFile.open(at('c.safetensors'))
    const codes = await sae.encode(values)
    expect(Array.from(file.view('offsets') as BigUint64Array, Number)).toEqual([...codes.offsets])
    expect(file.u32('indices')).toEqual(codes.indices)
    const last = await cli(
      'encode',
      '--sae',
      at('sae'),
      '--activations',
      at('base'),
      '-o',
      at('last.safetensors'),
      '--tokens',
      'last-prompt',
      '--threads',
      '1',
      '--precision',
      'fp32',
    )
    expect(last.code).toBe(0)
    const expected = await sae.encode(
      Float32Array.from({ length: prompts * dModel }, (_, i) => {
        const row = Math.floor(i / dModel) * tokensPerPrompt + 7
        return activationsOf(2, 0)[row * dModel + (i % dModel)]!
      }),
    )
    const kept = SafetensorsFile.open(at('last.safetensors'))
    expect(kept.u32('indices')).toEqual(expected.indices)
    expect(Array.from(kept.view('rows') as BigUint64Array, Number)).toEqual(
      Array.from({ length: prompts }, (_, prompt) => prompt * tokensPerPrompt + 7),
    )
    expect(await inspectPath(at('last.safetensors'))).toMatchObject({ rows: prompts, problems: [] })
  })

  it.each([
    ['all rows', 'all' as const],
    ['every third row', Uint8Array.from({ length: rows }, (_, row) => (row % 3 === 1 ? 1 : 0))],
  ])('of %s, stopped in the middle and resumed gives the same bytes', async (_, select) => {
    const store = await ActivationStore.open(at('base'))
    await encodeStore(sae, store, at('whole.safetensors'), { select })
    const controller = new AbortController()
    const stopped = encodeStore(sae, store, at('codes.safetensors'), {
      select,
      batchSize: 50,
      partSeconds: 0,
      signal: controller.signal,
      onProgress: ({ done }) => {
        if (done >= 150) controller.abort()
      },
    })
    await expect(stopped).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    expect((await readdir(at('codes.safetensors.parts'))).length).toBeGreaterThan(2)
    expect(existsSync(at('codes.safetensors'))).toBe(false)
    await writeFile(join(at('codes.safetensors.parts'), '.part-9.safetensors.00.partial'), 'half')
    await cp(at('codes.safetensors.parts'), at('copy.safetensors.parts'), { recursive: true })
    let first = 0
    await encodeStore(sae, store, at('codes.safetensors'), {
      select,
      resume: true,
      batchSize: 33,
      onProgress: ({ done }) => (first ||= done),
    })
    expect(first).toBeGreaterThanOrEqual(100)
    const whole = await readFile(at('whole.safetensors'))
    expect((await readFile(at('codes.safetensors'))).equals(whole)).toBe(true)
    // Parts of something else, and damaged parts.
    const resume = (identity: string): Promise<unknown> =>
      encodeStore(sae, store, at('copy.safetensors'), { select, resume: true, identity })
    await expect(resume('another SAE')).rejects.toThrow(/parts of other inputs/)
    const part = (await readdir(at('copy.safetensors.parts'))).find((name) => name.startsWith('part'))
    const bytes = await readFile(join(at('copy.safetensors.parts'), part!))
    bytes[bytes.length - 1]! ^= 1
    await writeFile(join(at('copy.safetensors.parts'), part!), bytes)
    await expect(resume('')).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringMatching(/SHA-256/),
    })
  })
})

describe('stats', () => {
  it('of seven uneven stores merged are the file of one pass, byte for byte', async () => {
    const values = activationsOf(2, 0)
    const ends = [1, 4, 5, 11, 12, 29, 30]
    const files: string[] = []
    for (const [i, end] of ends.entries()) {
      const begin = i === 0 ? 0 : ends[i - 1]!
      const length = (end - begin) * tokensPerPrompt
      await writeSafetensors(at(`part-${i}.safetensors`), [
        {
          name: 'activations',
          dtype: 'F32',
          shape: [length, dModel],
          data: values.subarray(begin * tokensPerPrompt * dModel, end * tokensPerPrompt * dModel),
        },
        {
          name: 'offsets',
          dtype: 'U32',
          shape: [end - begin + 1],
          data: Uint32Array.from({ length: end - begin + 1 }, (_, s) => s * tokensPerPrompt),
        },
        {
          name: 'prompts',
          dtype: 'U32',
          shape: [end - begin],
          data: Uint32Array.from({ length: end - begin }, (_, s) => 1000 + begin + s),
        },
      ])
      files.push(at(`stats-${i}.safetensors`))
      const { code } = await cli(
        'stats',
        '--sae',
        at('sae'),
        '--activations',
        at(`part-${i}.safetensors`),
        '-o',
        files[i]!,
      )
      expect(code).toBe(0)
    }
    const one = await cli(
      'stats',
      '--sae',
      at('sae'),
      '--activations',
      at('base'),
      '-o',
      at('one.safetensors'),
      '--json',
    )
    expect(JSON.parse(one.stdout)).toMatchObject({ latents, tokens: rows, prompts })
    const order = [3, 0, 6, 2, 5, 1, 4]
    const merged = await cli(
      'stats',
      ...order.flatMap((i) => ['--merge', files[i]!]),
      '-o',
      at('merged.safetensors'),
    )
    expect(merged).toMatchObject({ code: 0, stderr: '' })
    expect((await readFile(at('merged.safetensors'))).equals(await readFile(at('one.safetensors')))).toBe(
      true,
    )
    // What the file says is what float64 sums of the codes say.
    const codes = await sae.encode(values)
    const sum = new Float64Array(latents)
    for (const [i, latent] of codes.indices.entries()) sum[latent]! += codes.values[i]!
    const written = SafetensorsFile.open(at('merged.safetensors')).view('sum') as Float64Array
    for (let latent = 0; latent < latents; latent++) expect(written[latent]).toBeCloseTo(sum[latent]!, 9)
  })

  it('are kept while they are collected; killed and resumed they are the same bits', async () => {
    const store = await ActivationStore.open(at('tuned'))
    const wanted = { perGroup: true, examples: 3 } as const
    const whole = await collectStats(sae, store, wanted)
    const checkpoint = { file: at('checkpoint.safetensors'), identity: 'this', everySeconds: 0 }
    const controller = new AbortController()
    const stopped = collectStats(sae, store, {
      ...wanted,
      checkpoint,
      batchSize: 37,
      signal: controller.signal,
      onProgress: ({ done }) => {
        if (done >= 200) controller.abort()
      },
    })
    await expect(stopped).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    const { extra, stats } = await LatentStats.loadWithExtra(checkpoint.file)
    expect(Number(extra['rowsRead'])).toBe(stats.rows)
    expect(stats.rows).toBeGreaterThanOrEqual(200) // though a checkpoint was being written, and was stopped too
    const resumed = await collectStats(sae, store, { ...wanted, checkpoint, batchSize: 64 })
    await whole.save(at('whole.safetensors'))
    await resumed.save(at('resumed.safetensors'))
    expect((await readFile(at('resumed.safetensors'))).equals(await readFile(at('whole.safetensors')))).toBe(
      true,
    )
    const other = collectStats(sae, store, { ...wanted, checkpoint: { ...checkpoint, identity: 'that' } })
    await expect(other).rejects.toThrow(/checkpoint of other inputs or options/)
    const elsewhere = collectStats(sae, await ActivationStore.open(at('base')), { ...wanted, checkpoint })
    await expect(elsewhere).rejects.toThrow(/checkpoint of other inputs/)
  })

  it('files that are damaged or of another kind are refused', async () => {
    const out = at('s.safetensors')
    await cli('stats', '--sae', at('sae'), '--activations', at('base'), '-o', out, '--examples', '2')
    const bytes = await readFile(out)
    for (const place of [bytes.length - 3, 9000]) {
      const damaged = Buffer.from(bytes)
      damaged[place]! ^= 0x40
      await writeFile(at('damaged.safetensors'), damaged)
      await expect(LatentStats.load(at('damaged.safetensors'))).rejects.toMatchObject({ code: 'ERR_FORMAT' })
    }
    await writeFile(at('short.safetensors'), bytes.subarray(0, 5000))
    await expect(LatentStats.load(at('short.safetensors'))).rejects.toMatchObject({ code: 'ERR_FORMAT' })
    await expect(LatentStats.load(join(at('sae'), 'sae_weights.safetensors'))).rejects.toThrow(
      /expected 'personascope-latent-stats'/,
    )
    const merge = await cli(
      'stats',
      '--merge',
      out,
      '--merge',
      at('none.safetensors'),
      '-o',
      at('m.safetensors'),
    )
    expect(merge.stderr).toMatch(/^error \[ERR_NOT_FOUND\] .*none\.safetensors/)
    expect(existsSync(at('m.safetensors'))).toBe(false)
    const loaded = await LatentStats.load(out)
    expect(loaded.examples(planted).length).toBeLessThanOrEqual(2)
  })
})

describe('diff', () => {
  it('ranks the latent that moved first, in a table that others can read', async () => {
    const { code, stdout, stderr } = await cli(
      'diff',
      '--sae',
      at('sae'),
      '--base',
      at('base'),
      '--tuned',
      at('tuned'),
      '-o',
      at('d.parquet'),
      '--top',
      '25',
      '--tokens',
      'assistant',
    )
    expect(code).toBe(0)
    expect(stderr).toMatch(/base: 100 % · 360 of 360 tokens/)
    expect(stdout).toMatch(/largest increase[\s\S]*17[\s\S]*largest decrease[\s\S]*30 prompts/)
    const table = await readTable(at('d.parquet'))
    expect(table.length).toBe(50)
    expect(Object.keys(table[0]!)).toEqual(
      'latent rank mean_base mean_tuned delta effect_size active_base active_tuned ci_low ci_high p_value q_value'.split(
        ' ',
      ),
    )
    expect(table.map((row) => row['rank'])).toEqual([
      ...Array.from({ length: 25 }, (_, i) => i + 1),
      ...Array.from({ length: 25 }, (_, i) => latents - 24 + i),
    ])
    const [top] = table as [Record<string, number>]
    expect(top['latent']).toBe(planted)
    expect(top['q_value']).toBeLessThan(1e-6)
    expect(top['ci_low']).toBeGreaterThan(0)
    // Means over the assistant's tokens, from the codes.
    for (const [column, seed, shift] of [
      ['mean_base', 2, 0],
      ['mean_tuned', 3, 0.6],
    ] as const) {
      const codes = await sae.encode(activationsOf(seed, shift))
      let sum = 0
      for (let row = 0; row < rows; row++) if (row % tokensPerPrompt >= 8) sum += codes.value(row, planted)
      expect(top[column]).toBeCloseTo(sum / (prompts * 4), 10)
    }
    expect((await readdir(folder)).toSorted()).toEqual(['base', 'd.parquet', 'sae', 'tuned'])
  })

  it('takes statistics for activations, several models after, and gives the same table', async () => {
    for (const name of ['base', 'tuned'])
      await cli('stats', '--sae', at('sae'), '--activations', at(name), '-o', at(`${name}.safetensors`))
    const tables: Buffer[] = []
    for (const [i, inputs] of [
      ['--sae', at('sae'), '--base', at('base'), '--tuned', at('tuned'), '--tuned', at('tuned')],
      [
        '--base',
        at('base.safetensors'),
        '--tuned',
        at('tuned.safetensors'),
        '--tuned',
        at('tuned.safetensors'),
      ],
    ].entries()) {
      const { code, stdout } = await cli('diff', ...inputs, '-o', at(`${i}.parquet`), '--top', '0', '--json')
      expect(code).toBe(0)
      const found = JSON.parse(stdout) as { rows: number; prompts: number; top: { index: number }[] }
      expect(found).toMatchObject({ rows: latents, prompts })
      expect(found.top[0]!.index).toBe(planted)
      tables.push(Buffer.from(JSON.stringify(await readTable(at(`${i}.parquet`)))))
    }
    expect(tables[0]!.equals(tables[1]!)).toBe(true)
  })

  it('killed by SIGKILL and resumed gives the same bytes', async () => {
    const main = join(import.meta.dirname, '../../dist/cli/main.js')
    expect(existsSync(main), 'npm run build makes the command line').toBe(true)
    const args = ['diff', '--sae', at('sae'), '--base', at('base'), '--tuned', at('tuned'), '--top', '0']
    await promisify(execFile)(process.execPath, [main, ...args, '-o', at('whole.parquet')])
    for (const delay of [150, 400, 700]) {
      const out = at(`killed-${delay}.parquet`)
      const child = spawn(process.execPath, [main, ...args, '-o', out], { stdio: 'ignore' })
      const closed = new Promise((resolve) => child.once('close', resolve))
      await new Promise((resolve) => setTimeout(resolve, delay))
      child.kill('SIGKILL')
      await closed
      await promisify(execFile)(process.execPath, [main, ...args, '-o', out, '--resume'])
      // The file's metadata holds the inputs only, so the bytes agree.
      expect((await readFile(out)).equals(await readFile(at('whole.parquet')))).toBe(true)
    }
  }, 60_000)
})

const diffs = (...more: string[]): Promise<{ code: number; stdout: string; stderr: string }> =>
  cli('diff', '--sae', at('sae'), '--base', at('base'), '-o', at('d.parquet'), ...more)

const compare = (name: string): ReturnType<typeof cli> =>
  cli(
    'diff',
    '--sae',
    at('sae'),
    '--base',
    at('a.safetensors'),
    '--tuned',
    at(`${name}.safetensors`),
    '-o',
    at('d.parquet'),
  )

/** A task that is stopped once it has come so far. */
const stopAt = (row: number): Pick<TaskOptions, 'signal' | 'onProgress'> => {
  const controller = new AbortController()
  return {
    signal: controller.signal,
    onProgress: ({ done }) => {
      if (done >= row) controller.abort()
    },
  }
}

const statsOfBase = (name: string, ...more: string[]): ReturnType<typeof cli> =>
  cli('stats', '--activations', at('base'), '-o', at(name), ...more)

describe('an output', () => {
  it('never replaces an input, nor lies among its files', async () => {
    const file = join(
      at('base'),
      (await readdir(at('base'))).find((name) => name.startsWith('shard'))!,
    )
    await symlink(file, at('link.safetensors'))
    await mkdir(at('folder'))
    const weights = join(at('sae'), 'sae_weights.safetensors')
    const before = await Promise.all([file, weights].map((path) => readFile(path)))
    const names = (await readdir(at('base'))).length
    const encodes = (out: string): string[] => ['encode', '--activations', file, '-o', out]
    for (const [args, message] of [
      [encodes(file), /--out .*: found the input .*, which would be lost/],
      [encodes(at('link.safetensors')), /found the input/],
      [encodes(weights), /found a place within the input .*sae, expected one outside/],
      [encodes(at('folder')), /found a folder, expected the name of a file/],
      [['stats', '--activations', at('base'), '-o', join(at('base'), 's.safetensors')], /within the input/],
      [
        ['diff', '--base', at('base'), '--tuned', file, '--any-prompts', '-o', file],
        /found the input|within the input/,
      ],
    ] as const) {
      const { code, stderr } = await cli(...args, '--sae', at('sae'))
      expect(code).toBe(1)
      expect(stderr).toMatch(/^error \[ERR_INVALID_ARGUMENT\] .+\n(.*hint.*\n)?/i)
      expect(stderr).toMatch(message)
    }
    for (const [i, path] of [file, weights].entries())
      expect((await readFile(path)).equals(before[i]!)).toBe(true)
    expect((await readdir(at('base'))).length).toBe(names)
  })

  it('clears away what a killed run of the same output left', async () => {
    const left = (name: string): string => at(`.${name}.0123456789ab.partial`)
    for (const name of ['codes.safetensors', 'other.safetensors']) await writeFile(left(name), 'half')
    await mkdir(left('converted'))
    const out = ['-o', at('codes.safetensors')]
    expect((await cli('encode', '--sae', at('sae'), '--activations', at('base'), ...out)).code).toBe(0)
    expect((await cli('convert', at('sae'), at('converted'))).code).toBe(0)
    expect([existsSync(left('codes.safetensors')), existsSync(left('converted'))]).toEqual([false, false])
    expect(existsSync(left('other.safetensors'))).toBe(true)
  })

  it('keeps all that was done when it is stopped, not only what was due to be written', async () => {
    const store = await ActivationStore.open(at('base'))
    const out = at('codes.safetensors')
    const stopped = { code: 'ERR_ABORTED' }
    await expect(encodeStore(sae, store, out, { batchSize: 50, ...stopAt(150) })).rejects.toMatchObject(
      stopped,
    )
    let first = 0
    await encodeStore(sae, store, out, { resume: true, onProgress: ({ done }) => (first ||= done) })
    expect(first).toBeGreaterThanOrEqual(150)
    await encodeStore(sae, store, at('whole.safetensors'))
    expect((await readFile(out)).equals(await readFile(at('whole.safetensors')))).toBe(true)
    const checkpoint = { file: at('checkpoint.safetensors'), identity: 'this' }
    await expect(
      collectStats(sae, store, { checkpoint, batchSize: 50, ...stopAt(150) }),
    ).rejects.toMatchObject(stopped)
    const kept = await LatentStats.loadWithExtra(checkpoint.file)
    expect(kept.stats.rows).toBeGreaterThanOrEqual(150)
    expect(Number(kept.extra['rowsRead'])).toBe(kept.stats.rows)
    const resumed = await collectStats(sae, store, { checkpoint })
    expect(resumed.sum).toEqual((await collectStats(sae, store)).sum)
    // Nothing was done: nothing is left.
    const none = { ...stopAt(0) }
    await expect(encodeStore(sae, store, at('none.safetensors'), none)).rejects.toMatchObject(stopped)
    expect(existsSync(at('none.safetensors.parts'))).toBe(false)
  })
})

describe('statistics of files', () => {
  it('are known by their content, whatever the name', async () => {
    for (const name of ['one.st', 'two.st'])
      expect((await statsOfBase(name, '--sae', at('sae'))).code).toBe(0)
    const args = ['--base', at('one.st'), '--tuned', at('two.st'), '-o', at('d.parquet')]
    expect((await cli('diff', ...args)).stdout).toMatch(/80 latents/)
  })

  it('of another SAE or other tokens are not compared, nor merged', async () => {
    const other = { dModel, latents, k, wEnc: directions, wDec: directions, bDec: new Float32Array(dModel) }
    await Sae.fromWeights({ ...other, bEnc: new Float32Array(latents).fill(0.25) }).save(at('sae2'))
    await cp(at('sae'), at('elsewhere'), { recursive: true })
    for (const [name, ...more] of [
      ['a.safetensors', '--sae', at('sae')],
      ['same.safetensors', '--sae', at('elsewhere')],
      ['b.safetensors', '--sae', at('sae2')],
      ['last.safetensors', '--sae', at('sae'), '--tokens', 'last-prompt'],
    ] as const)
      expect((await statsOfBase(name, ...more)).code).toBe(0)
    const diff = (base: string, tuned: string, ...more: string[]): ReturnType<typeof cli> =>
      cli('diff', '--base', at(base), '--tuned', at(tuned), '-o', at('d.parquet'), ...more)
    const merge = (...names: string[]): ReturnType<typeof cli> =>
      cli('stats', ...names.flatMap((name) => ['--merge', at(name)]), '-o', at('m.safetensors'))
    expect((await diff('a.safetensors', 'same.safetensors')).code).toBe(0)
    expect((await merge('a.safetensors', 'same.safetensors')).code).toBe(0)
    expect((await diff('m.safetensors', 'tuned', '--sae', at('sae'))).code).toBe(0)
    for (const [{ code, stderr }, message] of [
      [
        await diff('a.safetensors', 'b.safetensors'),
        /b\.safetensors: latents of another SAE than those of .*a\./,
      ],
      [await merge('a.safetensors', 'b.safetensors'), /another SAE/],
      [await diff('a.safetensors', 'tuned', '--sae', at('sae2')), /a\.safetensors: latents of another SAE/],
      [await diff('m.safetensors', 'b.safetensors'), /another SAE/],
      [
        await diff('a.safetensors', 'last.safetensors'),
        /last\.safetensors: found statistics of --tokens last-prompt, expected all/,
      ],
      [await merge('a.safetensors', 'last.safetensors'), /--tokens last-prompt/],
      [await diff('last.safetensors', 'tuned', '--sae', at('sae')), /--tokens last-prompt, expected all/],
    ] as const) {
      expect(code).toBe(1)
      expect(stderr).toMatch(message)
    }
  })
})

describe('bad input is one clear line', () => {
  it.each([['prompts with other tokens', 1, /differ in their prompts: prompt 1000 has other tokens/]])(
    '%s',
    async (_, token, message) => {
      await writeStore(at('other'), activationsOf(3, 0), token)
      const { code, stderr } = await diffs('--tuned', at('other'))
      expect(code).toBe(1)
      expect(stderr).toMatch(message)
      expect(stderr).toMatch(/^error \[ERR_INVALID_ARGUMENT\] .+\n$/)
      expect((await diffs('--tuned', at('other'), '--any-prompts')).code).toBe(0)
    },
  )

  it('answers may differ, prompts of other numbers may not', async () => {
    const values = normal(3 * dModel, 5)
    const write = (name: string, prompt: number, tokens: number[]): Promise<unknown> =>
      writeSafetensors(at(`${name}.safetensors`), [
        { name: 'activations', dtype: 'F32', shape: [3, dModel], data: values },
        { name: 'tokens', dtype: 'I32', shape: [3], data: Int32Array.from(tokens) },
        { name: 'offsets', dtype: 'U32', shape: [2], data: Uint32Array.of(0, 3) },
        { name: 'prompts', dtype: 'U32', shape: [1], data: Uint32Array.of(prompt) },
        { name: 'roles', dtype: 'U8', shape: [3], data: Uint8Array.of(2, 2, 3) },
      ])
    await write('a', 1, [5, 6, 7])
    await write('b', 1, [5, 6, 8])
    await write('c', 2, [5, 6, 7])
    expect((await compare('b')).code).toBe(0)
    expect((await compare('c')).stderr).toMatch(/prompt 1 is only in the first/)
  })

  it('activations of another width', async () => {
    await writeSafetensors(at('narrow.safetensors'), [
      { name: 'activations', dtype: 'F32', shape: [2, 5], data: new Float32Array(10) },
    ])
    const { stderr } = await cli(
      'encode',
      '--sae',
      at('sae'),
      '--activations',
      at('narrow.safetensors'),
      '-o',
      at('c.safetensors'),
    )
    expect(stderr).toMatch(/narrow\.safetensors: activations of width 5, but the SAE takes 24/)
    expect(existsSync(at('c.safetensors'))).toBe(false)
  })

  it('NaN, located by file and row', async () => {
    const values = activationsOf(2, 0)
    values[100 * dModel + 7] = Number.NaN
    await mkdir(at('nan'))
    const half = 60
    for (const [i, [begin, end]] of [
      [0, half],
      [half, rows],
    ].entries())
      await writeSafetensors(join(at('nan'), `shard-${i}.safetensors`), [
        {
          name: 'activations',
          dtype: 'F32',
          shape: [end! - begin!, dModel],
          data: values.subarray(begin! * dModel, end! * dModel),
        },
      ])
    const { code, stderr } = await cli(
      'stats',
      '--sae',
      at('sae'),
      '--activations',
      at('nan'),
      '-o',
      at('s.safetensors'),
    )
    expect(code).toBe(1)
    expect(stderr).toMatch(/ERR_NON_FINITE.*shard-1\.safetensors.*row 40, component 7 is -?nan/)
  })

  it('empty stores, files that are not there, and missing options', async () => {
    await writeSafetensors(at('empty.safetensors'), [
      { name: 'activations', dtype: 'F32', shape: [0, dModel], data: new Float32Array(0) },
    ])
    expect((await diffs('--tuned', at('empty.safetensors'), '--any-prompts')).stderr).toMatch(/has no rows/)
    expect((await diffs('--tuned', at('none'))).stderr).toMatch(/ERR_NOT_FOUND.*none/)
    expect((await diffs()).stderr).toMatch(/--tuned is missing/)
    expect(
      (await cli('diff', '--base', at('base'), '--tuned', at('tuned'), '-o', at('d.parquet'))).stderr,
    ).toMatch(/--sae is missing/)
    expect((await diffs('--tuned', at('tuned'), '--tokens', 'some')).stderr).toMatch(
      /--tokens is 'some', expected one of/,
    )
    await mkdir(at('nothing'))
    expect((await diffs('--tuned', at('nothing'))).stderr).toMatch(
      /found neither index\.json nor \.safetensors or \.npy files/,
    )
    expect(existsSync(at('d.parquet'))).toBe(false)
  })

  it('a full disk: nothing half-written is left', async () => {
    const main = join(import.meta.dirname, '../../dist/cli/main.js')
    expect(existsSync(main), 'npm run build makes the command line').toBe(true)
    // Files of at most 8 KiB, as the shell's ulimit counts.
    const command = `trap '' XFSZ; ulimit -f 8; exec ${process.execPath} ${main} encode --sae ${at('sae')} --activations ${at('base')} -o ${at('c.safetensors')}`
    const failed = await promisify(execFile)('bash', ['-c', command]).catch(
      (error: { stderr: string }) => error,
    )
    expect(failed.stderr).toMatch(/^encode[\s\S]*error \[ERR_IO\] .*EFBIG|^error \[ERR_IO\] .*EFBIG/m)
    const left = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith('.partial'))
    expect(left).toEqual([])
    expect(existsSync(at('c.safetensors'))).toBe(false)
  }, 30_000)
})
