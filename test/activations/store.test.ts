import { cp, open, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ROLES, type StoredDtype } from '../../lib/activations/format.js'
import { ActivationStore, type BatchOptions, type StoreBatch } from '../../lib/activations/store.js'
import { ActivationStoreWriter, type StoredActivations } from '../../lib/activations/writer.js'
import { runNative } from '../../lib/core/task.js'
import { SafetensorsFile, writeSafetensors } from '../../lib/io/safetensors.js'
import { native } from '../../lib/native.js'
import { temporaryFolder } from '../io/temporary-folder.js'

const dModel = 5
const options = {
  dModel,
  hook: { point: 'resid_mid', layer: 1 },
  model: 'm',
  shardBytes: 900 * dModel * 4,
} as const

/** Sequences of `lengths` tokens; the value of a row tells its sequence (over all), position and component. */
function captured(base: number, lengths: readonly number[]): StoredActivations {
  const rows = lengths.reduce((a, b) => a + b, 0)
  const sequence = Uint32Array.from(lengths.flatMap((length, i) => Array(length).fill(i)))
  const position = Uint32Array.from(lengths.flatMap((length) => Array.from({ length }, (_, i) => i)))
  const values = new Float32Array(rows * dModel)
  for (let row = 0; row < rows; row++)
    for (let j = 0; j < dModel; j++)
      values[row * dModel + j] = (base + sequence[row]!) * 100 + position[row]! + j / 8
  return { values, rows, dModel, sequence, position, tokens: Int32Array.from(position, (p) => p * 3) }
}

const batchLengths = Array.from({ length: 30 }, (_, i) => [10 + i, 0, 37, 1 + (i % 3)])

async function fill(writer: ActivationStoreWriter, first = 0, until = batchLengths.length): Promise<void> {
  for (let i = first; i < until; i++) await writer.append(captured(i * 4, batchLengths[i]!), { sequences: 4 })
}

async function makeStore(folder: string): Promise<ActivationStore> {
  const writer = await ActivationStoreWriter.create(folder, options)
  await fill(writer)
  await writer.close()
  return ActivationStore.open(folder)
}

async function collect(store: ActivationStore, batch: BatchOptions): Promise<StoreBatch[]> {
  const all: StoreBatch[] = []
  for await (const one of store.batches(batch)) all.push(one)
  return all
}

/** Every row says where it comes from; checks all fields of a batch against that. */
function expectTrue(batch: StoreBatch): void {
  expect(batch.values.length).toBe(batch.rows * dModel)
  for (let i = 0; i < batch.rows; i++) {
    const expected = batch.sequence[i]! * 100 + batch.position[i]!
    expect(batch.values[i * dModel]).toBe(expected)
    expect(batch.values[i * dModel + dModel - 1]).toBe(Math.fround(expected + (dModel - 1) / 8))
    expect(batch.tokens[i]).toBe(batch.position[i]! * 3)
  }
}

const totalRows = batchLengths.flat().reduce((a, b) => a + b, 0)

describe('rows of a mapped file', () => {
  it.each(['keep', 'unmap', 'evict'] as const)('are the same after they were read, %s', async (after) => {
    const path = join(await temporaryFolder(), 'rows.safetensors')
    const [count, width] = [3000, 64]
    const data = Float32Array.from({ length: count * width }, (_, i) => i)
    await writeSafetensors(path, [{ name: 'activations', dtype: 'F32', shape: [count, width], data }])
    const tensor = SafetensorsFile.open(path).tensor('activations')
    expect(native.rowsInMemory(tensor)).toBe(true) // it was just written
    const rows = Uint32Array.from({ length: count }, (_, row) => row)
    for (let pass = 0; pass < 3; pass++) {
      const out = new Float32Array(data.length)
      await runNative({}, 'rows', (job) => native.readRows(tensor, rows, rows, out, after, job))
      expect(out).toEqual(data)
    }
  })

  it('are kept, unmapped or evicted, nothing else', async () => {
    const path = join(await temporaryFolder(), 'rows.safetensors')
    await writeSafetensors(path, [{ name: 'a', dtype: 'F32', shape: [1, 1], data: Float32Array.of(1) }])
    const row = Uint32Array.of(0)
    const read = (): Promise<void> =>
      runNative({}, 'rows', (job) =>
        native.readRows(
          SafetensorsFile.open(path).tensor('a'),
          row,
          row,
          new Float32Array(1),
          'burn' as 'keep',
          job,
        ),
      )
    await expect(read()).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/after: found 'burn', expected 'keep', 'unmap' or 'evict'/) as string,
    })
  })
})

describe('a store', () => {
  it('gives back every row in order, over several shards', async () => {
    const folder = await temporaryFolder()
    const store = await makeStore(folder)
    expect((await readdir(folder)).filter((name) => name.startsWith('shard')).length).toBeGreaterThan(1)
    expect(store).toMatchObject({ rows: totalRows, sequences: 120, dModel, model: 'm' })
    expect(store.hook).toEqual({ point: 'resid_mid', layer: 1 })
    for (const batchSize of [1, 7, 300, totalRows + 1]) {
      const batches = await collect(store, { batchSize })
      for (const batch of batches) expectTrue(batch)
      expect(batches.flatMap((batch) => [...batch.ids])).toEqual(
        Array.from({ length: totalRows }, (_, i) => i),
      )
      expect(batches.slice(0, -1).every((batch) => batch.rows === batchSize)).toBe(true)
    }
  })

  it('reads into the same memory where asked to, one batch ahead', async () => {
    const store = await makeStore(await temporaryFolder())
    const memory = new Set<ArrayBufferLike>()
    const ids: number[] = []
    for await (const batch of store.batches({ batchSize: 100, reuse: true })) {
      await new Promise((resolve) => setTimeout(resolve, 2)) // the next one is read meanwhile
      expectTrue(batch)
      memory.add(batch.values.buffer)
      ids.push(...batch.ids)
    }
    expect(ids).toEqual(Array.from({ length: totalRows }, (_, i) => i))
    expect(memory.size).toBe(2)
  })

  it('shuffles: every row once an epoch, the same for the same seed, another order for another', async () => {
    const store = await makeStore(await temporaryFolder())
    for (const shuffleRows of [1, 600, 1 << 22]) {
      const ids = async (shuffle: number, epochs = 1): Promise<number[]> => {
        const batches = await collect(store, { batchSize: 64, shuffle, shuffleRows, epochs })
        for (const batch of batches) expectTrue(batch)
        return batches.flatMap((batch) => [...batch.ids])
      }
      const once = await ids(3)
      const sorted = Array.from({ length: totalRows }, (_, i) => i)
      expect(once).not.toEqual(sorted)
      expect(once.toSorted((a, b) => a - b)).toEqual(sorted)
      expect(await ids(3)).toEqual(once)
      expect(await ids(4)).not.toEqual(once)
      const twice = await ids(3, 2)
      expect(twice.slice(0, totalRows)).toEqual(once)
      expect(twice.slice(totalRows)).not.toEqual(once)
      expect(twice.slice(totalRows).toSorted((a, b) => a - b)).toEqual(sorted)
    }
    const full = await collect(store, { batchSize: 64, shuffle: 1, dropLast: true })
    expect(full.length).toBe(Math.floor(totalRows / 64))
    expect(full.every((batch) => batch.rows === 64)).toBe(true)
  })

  it('goes on after a killed writer and becomes the same, byte for byte', async () => {
    const folder = await temporaryFolder()
    const whole = join(folder, 'whole')
    const broken = join(folder, 'broken')
    await makeStore(whole)
    const writer = await ActivationStoreWriter.create(broken, options)
    await fill(writer, 0, 25) // and never closed: what is pending is lost
    await writeFile(join(broken, '.shard-00009.safetensors.00.partial'), 'half')
    await expect(ActivationStore.open(broken)).rejects.toThrow(/not complete/)
    expect((await ActivationStore.open(broken, { partial: true })).rows).toBe(writer.rows)
    const resumed = await ActivationStoreWriter.resume(broken, options)
    expect(resumed.sequences).toBe(writer.sequences)
    expect(resumed.sequences).toBeGreaterThan(0)
    expect(resumed.sequences).toBeLessThan(100)
    await fill(resumed, resumed.sequences / 4)
    await resumed.close()
    const names = (await readdir(whole)).toSorted()
    expect((await readdir(broken)).toSorted()).toEqual(names)
    for (const name of names)
      expect((await readFile(join(broken, name))).equals(await readFile(join(whole, name)))).toBe(true)
  })
})

const roles = (text: string): Uint8Array =>
  Uint8Array.from(text, (letter) => ({ s: ROLES.system, u: ROLES.user, a: ROLES.assistant })[letter] ?? 0)

describe('what counts', () => {
  // Prompts of one and several turns, one without an answer, one that is only an answer, an answer with an end after it.
  const turns = ['suuaaa', 'uuu', 'uaauuaa', 'aa', 'uaas']

  async function store(dtype: StoredDtype): Promise<ActivationStore> {
    const folder = await temporaryFolder()
    const writer = await ActivationStoreWriter.create(folder, { ...options, dtype, shardBytes: 60 })
    for (const [i, text] of turns.entries()) {
      const rows = text.length
      const numbers = Uint32Array.from({ length: rows }, (_, row) => row)
      // Whole numbers and halves up to 64 are exact in every type.
      const values = Float32Array.from(
        { length: rows * dModel },
        (_, j) => i * 8 + Math.floor(j / dModel) / 2,
      )
      await writer.append({
        values: dtype === 'F32' ? values : Uint16Array.from(values, (value) => bitsOf(value, dtype)),
        rows,
        dModel,
        sequence: new Uint32Array(rows),
        position: numbers,
        tokens: Int32Array.from(numbers),
        roles: roles(text),
        prompts: Uint32Array.of(70 + (i >> 1)),
      })
    }
    await writer.close()
    return ActivationStore.open(folder)
  }

  it.each(['F32', 'F16', 'BF16'] as const)('rows by role, of %s, exactly', async (dtype) => {
    const opened = await store(dtype)
    const first = turns.map((_, i) => turns.slice(0, i).join('').length)
    for (const [select, expected] of [
      ['all', turns.map((text) => [...text].map((_, i) => i))],
      ['assistant', [[3, 4, 5], [], [1, 2, 5, 6], [0, 1], [1, 2]]],
      ['prompt', [[0, 1, 2], [0, 1, 2], [0, 3, 4], [], [0, 3]]],
      ['last-prompt', [[2], [2], [4], [], [0]]],
    ] as const) {
      for (const batchSize of [1, 3, 100]) {
        const batches = await collect(opened, { select, batchSize })
        const wanted = expected.flatMap((rows, i) => rows.map((row) => [i, row] as const))
        expect(batches.flatMap(({ ids }) => [...ids])).toEqual(wanted.map(([i, row]) => first[i]! + row))
        expect(batches.flatMap(({ groups }) => [...groups])).toEqual(wanted.map(([i]) => 70 + (i >> 1)))
        expect(batches.flatMap(({ position }) => [...position])).toEqual(wanted.map(([, row]) => row))
        expect(batches.flatMap(({ values }) => [...values].filter((_, j) => j % dModel === 0))).toEqual(
          wanted.map(([i, row]) => i * 8 + row / 2),
        )
      }
    }
    const mask = Uint8Array.from({ length: opened.rows }, (_, row) => (row % 3 === 0 ? 1 : 0))
    const masked = await collect(opened, { select: mask, firstRow: 4 })
    expect(masked.flatMap(({ ids }) => [...ids])).toEqual([6, 9, 12, 15, 18, 21])
    await expect(collect(opened, { select: mask.subarray(1) })).rejects.toThrow(
      /mask of 21 rows, expected 22/,
    )
    await expect(collect(opened, { shuffle: 1, select: 'assistant' })).rejects.toThrow(/cannot be combined/)
  })

  it('digests tell prompts apart by what is not the answer', async () => {
    const digests = await (await store('F32')).promptDigests()
    expect([...digests.keys()]).toEqual([70, 71, 72])
    expect(new Set(digests.values()).size).toBe(3)
  })

  it('the event loop goes on while rows are read, and a stopped reader leaves nothing behind', async () => {
    const opened = await store('BF16')
    const controller = new AbortController()
    const reading = collect(opened, { batchSize: 1, signal: controller.signal })
    controller.abort()
    await expect(reading).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    for await (const { rows } of opened.batches({ batchSize: 2 })) {
      expect(rows).toBe(2)
      break
    }
  })
})

/** The bits of a value that F16 or BF16 holds exactly. */
function bitsOf(value: number, dtype: StoredDtype): number {
  if (value === 0) return 0
  if (dtype === 'BF16') return new Uint32Array(Float32Array.of(value).buffer)[0]! >>> 16
  const exponent = Math.floor(Math.log2(value))
  return ((exponent + 15) << 10) | ((value / 2 ** exponent - 1) * 1024)
}

const flip = async (path: string): Promise<void> => {
  const file = await open(join(path, 'shard-00001.safetensors'), 'r+')
  await file.write(Buffer.from([7]), 0, 1, 5000)
  await file.close()
}

const edit = (from: RegExp, to: string) => async (path: string) =>
  writeFile(join(path, 'index.json'), (await readFile(join(path, 'index.json'), 'utf8')).replace(from, to))

describe('refusals', () => {
  it('locate NaN and Inf', async () => {
    const writer = await ActivationStoreWriter.create(await temporaryFolder(), options)
    const batch = captured(0, [4, 6])
    batch.values[7 * dModel + 2] = Number.NaN
    await expect(writer.append(batch)).rejects.toMatchObject({
      code: 'ERR_NON_FINITE',
      message: 'activation NaN in component 2 of sequence 1, position 3',
    })
  })

  it('locate NaN and Inf of 16 bits', async () => {
    for (const [dtype, bits] of [
      ['F16', 0x7c00],
      ['BF16', 0xff81],
    ] as const) {
      const writer = await ActivationStoreWriter.create(await temporaryFolder(), { ...options, dtype })
      const batch = captured(0, [4, 6])
      await expect(writer.append(batch)).rejects.toThrow(/found Float32Array, expected Uint16Array/)
      const values = new Uint16Array(batch.values.length)
      values[7 * dModel + 2] = bits
      await expect(writer.append({ ...batch, values })).rejects.toMatchObject({
        code: 'ERR_NON_FINITE',
        message: 'activation NaN or infinity in component 2 of sequence 1, position 3',
      })
    }
  })

  it('of roles and prompts that do not fit', async () => {
    const writer = await ActivationStoreWriter.create(await temporaryFolder(), options)
    const batch = captured(0, [4, 6])
    await expect(writer.append({ ...batch, roles: new Uint8Array(3) })).rejects.toThrow(
      /roles: found 3 values, expected 10/,
    )
    await expect(writer.append({ ...batch, prompts: new Uint32Array(3) })).rejects.toThrow(
      /prompts: found 3 values, expected 2/,
    )
    await writer.append(batch)
    await expect(writer.append({ ...batch, roles: new Uint8Array(10) })).rejects.toThrow(
      /with every batch or with none/,
    )
  })

  it('of batches that do not fit', async () => {
    const folder = await temporaryFolder()
    const writer = await ActivationStoreWriter.create(folder, options)
    const batch = captured(0, [4, 6])
    await expect(writer.append({ ...batch, dModel: 4 })).rejects.toThrow(/width 4, expected 5/)
    await expect(writer.append({ ...batch, rows: 9 })).rejects.toThrow(/values: found 50 values, expected 45/)
    await expect(writer.append({ ...batch, sequence: batch.sequence.toReversed() })).rejects.toThrow(/rising/)
    await expect(writer.append(batch, { sequences: 1 })).rejects.toThrow(/rows of 2 sequences/)
    await expect(ActivationStoreWriter.create(folder, options)).rejects.toThrow(/already holds/)
  })

  it('of damaged stores', async () => {
    const folder = await temporaryFolder()
    await makeStore(join(folder, 'good'))
    const damaged = async (change: (path: string) => Promise<void>): Promise<Promise<unknown>> => {
      const path = join(folder, `bad-${Math.random()}`)
      await cp(join(folder, 'good'), path, { recursive: true })
      await change(path)
      return ActivationStore.open(path).then((store) => collect(store, {}))
    }
    await expect(damaged(flip)).rejects.toThrow(/shard-00001\.safetensors: its SHA-256/)
    await expect(damaged(edit(/"dModel": 5/, '"dModel": 6'))).rejects.toThrow(/expected \[\d+, 6\]/)
    await expect(damaged(edit(/"version": 1/, '"version": 2'))).rejects.toThrow(/index\.json: version/)
    await expect(damaged(edit(/"file": "shard-00000/, '"file": "../shard-00000'))).rejects.toThrow(
      /index\.json: shards\.0\.file/,
    )
    await expect(damaged(edit(/"rows": \d+,\n {2}"complete/, '"rows": 1,\n  "complete'))).rejects.toThrow(
      /rows: found 1, but its shards have/,
    )
    await expect(ActivationStore.open(join(folder, 'none'))).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' })
  })
})
