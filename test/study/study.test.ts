import { mkdtemp, readFile, readdir, rm, truncate, writeFile, mkdir, chmod } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Stage, StudyEvent } from '../../lib/study/stage.js'
import { Study } from '../../lib/study/study.js'
import { StudyFolder } from '../../lib/study/study-folder.js'

const identity = { seed: 3, preset: 'quick' }
let dir: string

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'personascope-study-'))
})
afterEach(async () => {
  await chmod(dir, 0o755).catch(() => {})
  await rm(dir, { recursive: true, force: true })
})

/** Two stages that count how often they run: numbers with a file, and their sum. */
function stages(
  log: string[],
  scale = 1,
): { numbers: Stage<number[]>; sum: Stage<{ sum: number }>; all: Stage[] } {
  const numbers: Stage<number[]> = {
    id: 'numbers',
    group: 'first',
    title: 'numbers',
    inputs: [],
    config: { scale },
    cost: 1,
    async run(context) {
      log.push('numbers')
      await writeFile(join(context.dir, 'big.bin'), new Uint8Array(64).fill(7))
      context.progress('counting', { done: 1, total: 1, unit: 'numbers' })
      return [1, 2, context.seed('numbers') % 10].map((value) => value * scale)
    },
  }
  const sum: Stage<{ sum: number }> = {
    id: 'sum',
    group: 'second',
    title: 'sum',
    inputs: [numbers],
    config: {},
    cost: 1,
    async run(context) {
      log.push('sum')
      const big = await readFile(context.file(numbers, 'big.bin'))
      return { sum: context.result(numbers).reduce((a, b) => a + b, 0) + big.length }
    },
  }
  return { numbers, sum, all: [numbers, sum] }
}

async function run(
  log: string[],
  options: { scale?: number; onEvent?: (event: StudyEvent) => void } = {},
): Promise<number> {
  const { sum, all } = stages(log, options.scale)
  const folder = await StudyFolder.open(dir, identity)
  try {
    const { result } = await new Study(all, identity).run(folder, options)
    return result(sum).sum
  } finally {
    await folder.close()
  }
}

describe('Study', () => {
  it('reuses saved stages and gives the same result', async () => {
    const log: string[] = []
    const events: string[] = []
    const first = await run(log)
    const second = await run(log, { onEvent: (event) => events.push(event.event) })
    expect(second).toBe(first)
    expect(log).toEqual(['numbers', 'sum'])
    expect(events).toEqual(['plan', 'stage-reused', 'stage-reused', 'finished'])
  })

  it('runs a stage again when its configuration changed, and what depends on it', async () => {
    const log: string[] = []
    const first = await run(log)
    const second = await run(log, { scale: 2 })
    expect(log).toEqual(['numbers', 'sum', 'numbers', 'sum'])
    expect(second - 64).toBe(2 * (first - 64))
  })

  it('does not run dependents again when a recomputed input comes out the same', async () => {
    const log: string[] = []
    await run(log)
    await rm(join(dir, 'stages', 'numbers'), { recursive: true })
    await run(log)
    expect(log).toEqual(['numbers', 'sum', 'numbers'])
  })

  it.each([
    ['a truncated file', (stage: string) => truncate(join(stage, 'big.bin'), 10), /10 bytes, expected 64/],
    [
      'a changed file',
      (stage: string) => writeFile(join(stage, 'big.bin'), new Uint8Array(64).fill(8)),
      /does not match its checksum/,
    ],
    ['a truncated result', (stage: string) => truncate(join(stage, 'result.json'), 2), /bytes, expected/],
    ['a truncated manifest', (stage: string) => truncate(join(stage, 'stage.json'), 40), /cannot be read/],
    ['a missing file', (stage: string) => rm(join(stage, 'big.bin')), /cannot be read/],
  ])('computes a stage again after %s', async (_, damage, reason) => {
    const log: string[] = []
    const first = await run(log)
    await damage(join(dir, 'stages', 'numbers'))
    const warnings: string[] = []
    const again = await run(log, {
      onEvent: (event) => event.event === 'warning' && warnings.push(event.message),
    })
    expect(again).toBe(first)
    expect(log).toEqual(['numbers', 'sum', 'numbers'])
    expect(warnings.join()).toMatch(reason)
  })

  it('keeps the working folder of an interrupted stage for the same key only', async () => {
    let attempts = 0
    const make = (config: object): Stage<string> => ({
      id: 'long',
      group: 'g',
      title: 'long',
      inputs: [],
      config,
      cost: 1,
      async run(context) {
        attempts++
        const checkpoint = join(context.dir, 'checkpoint')
        const found = await readFile(checkpoint, 'utf8').catch(() => 'none')
        await writeFile(checkpoint, `attempt ${attempts}`)
        if (attempts < 3) throw new Error('power cut')
        await rm(checkpoint)
        return found
      },
    })
    const attempt = async (config: object): Promise<string> => {
      const folder = await StudyFolder.open(dir, identity)
      const stage = make(config)
      try {
        return (await new Study([stage], identity).run(folder)).result(stage)
      } finally {
        await folder.close()
      }
    }
    await expect(attempt({ a: 1 })).rejects.toThrow('power cut')
    await expect(attempt({ a: 1 })).rejects.toThrow('power cut')
    expect(await attempt({ a: 1 })).toBe('attempt 2')
    expect((await readdir(join(dir, 'stages'))).toSorted()).toEqual(['long'])
    attempts = 2
    expect(await attempt({ a: 2 })).toBe('none')
  })

  it('stops between stages when aborted, and goes on afterwards', async () => {
    const log: string[] = []
    const controller = new AbortController()
    const { sum, all } = stages(log)
    const folder = await StudyFolder.open(dir, identity)
    const running = new Study(all, identity).run(folder, {
      signal: controller.signal,
      onEvent: (event) => event.event === 'stage-finished' && controller.abort(),
    })
    await expect(running).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    const { result } = await new Study(all, identity).run(folder)
    await folder.close()
    expect(result(sum).sum).toBeGreaterThan(64)
    expect(log).toEqual(['numbers', 'sum'])
  })

  it('refuses undeclared inputs, repeated names and wrong order', async () => {
    const { numbers, sum } = stages([])
    expect(() => new Study([sum, numbers], identity)).toThrow(/does not come before/)
    expect(() => new Study([numbers, numbers], identity)).toThrow(/two stages are called 'numbers'/)
    const sly: Stage = { ...sum, id: 'sly', inputs: [], run: async (context) => context.result(numbers) }
    const folder = await StudyFolder.open(dir, identity)
    await expect(new Study([numbers, sly], identity).run(folder)).rejects.toThrow(/not an input of 'sly'/)
    await folder.close()
  })

  it('refuses results that JSON would change', async () => {
    const stage: Stage = { ...stages([]).numbers, run: () => Promise.resolve({ deep: [1, Number.NaN] }) }
    const folder = await StudyFolder.open(dir, identity)
    await expect(new Study([stage], identity).run(folder)).rejects.toThrow(/\$\.deep\[1\] is NaN/)
    await folder.close()
  })
})

describe('StudyFolder', () => {
  it('refuses a folder that holds something else and leaves it alone', async () => {
    await writeFile(join(dir, 'thesis.txt'), 'mine')
    await expect(StudyFolder.open(dir, identity)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining("found 'thesis.txt'"),
    })
    expect(await readdir(dir)).toEqual(['thesis.txt'])
  })

  it('refuses the study of another seed or preset', async () => {
    await (await StudyFolder.open(dir, identity)).close()
    await expect(StudyFolder.open(dir, { ...identity, seed: 4 })).rejects.toMatchObject({
      hint: expect.stringContaining('--seed 3 --preset quick'),
    })
    await expect(StudyFolder.open(dir, { ...identity, preset: 'demo' })).rejects.toThrow(/preset 'quick'/)
  })

  it('refuses a damaged run.json', async () => {
    await writeFile(join(dir, 'run.json'), '{"format":"personascope-run","ver')
    await expect(StudyFolder.open(dir, identity)).rejects.toMatchObject({ code: 'ERR_FORMAT' })
  })

  it('refuses a file, and a study at work; takes over the lock of a dead process', async () => {
    const file = join(dir, 'file')
    await writeFile(file, '')
    await expect(StudyFolder.open(file, identity)).rejects.toThrow(/is a file, expected a folder/)
    const inner = join(dir, 'study')
    const folder = await StudyFolder.open(inner, identity)
    await expect(StudyFolder.open(inner, identity)).rejects.toThrow(/at work/)
    await folder.close()
    await writeFile(join(inner, 'lock'), '999999999\n')
    await (await StudyFolder.open(inner, identity)).close()
    expect(await readdir(inner)).not.toContain('lock')
  })

  it.skipIf(process.getuid?.() === 0)('says when a folder cannot be written', async () => {
    await chmod(dir, 0o555)
    await expect(StudyFolder.open(join(dir, 'study'), identity)).rejects.toMatchObject({ code: 'ERR_IO' })
  })

  it('says when the parent is a file', async () => {
    await writeFile(join(dir, 'file'), '')
    await expect(StudyFolder.open(join(dir, 'file', 'study'), identity)).rejects.toMatchObject({
      code: 'ERR_IO',
    })
    await mkdir(join(dir, 'ok'))
  })
})
