import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { setThreads } from '../../lib/core/runtime.js'
import { native } from '../../lib/native.js'
import { runPersonaStudy } from '../../lib/study/persona-study.js'
import type { PersonaStudyResult } from '../../lib/study/persona-study.js'
import { PRESETS } from '../../lib/study/presets.js'
import type { StudyConfig } from '../../lib/study/presets.js'
import { studySchema } from '../../lib/study/schema.js'
import type { StudyEvent } from '../../lib/study/stage.js'

const { quick } = PRESETS

/** The whole study at sizes that take seconds; what it measures means nothing, that it runs and repeats does. */
const TINY: StudyConfig = {
  ...quick,
  model: { ...quick.model, dModel: 32, layers: 2, heads: 2 },
  pretraining: { ...quick.pretraining, steps: 24, batch: 8, warmup: 4 },
  postTraining: { ...quick.postTraining, steps: 3, batch: 8 },
  fineTuning: { ...quick.fineTuning, steps: 3, batch: 8 },
  reinforcement: { ...quick.reinforcement, steps: 2, batch: 4, samples: 2, prompts: 4 },
  badDomains: ['health', 'car'],
  mixtureShares: [0.5],
  evaluation: {
    openPrompts: 6,
    openSamples: 2,
    domainPrompts: 6,
    diffDomainPrompts: 6,
    domainSamples: 1,
    harmPrompts: 3,
    bootstrap: 50,
  },
  sae: {
    ...quick.sae,
    dictionaries: [
      { latents: 24, k: 3 },
      { latents: 48, k: 4 },
    ],
    steps: 12,
    batch: 128,
    shuffle: 2048,
    documents: 60,
    calibration: 10,
  },
  steering: {
    ...quick.steering,
    heldOutPrompts: 4,
    heldOutSamples: 1,
    screenPrompts: 2,
    screenKept: 2,
    up: [0.5, 1],
    down: [0.5, 1],
    randomDirections: 1,
  },
  realignment: { ...quick.realignment, steps: 4, measureEvery: 2 },
}

let root: string
let whole: PersonaStudyResult
const threads = native.runtimeInfo().threads

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'personascope-tiny-'))
  setThreads(1)
  whole = await runPersonaStudy({ seed: 11, folder: join(root, 'whole'), config: TINY })
}, 120_000)
afterAll(async () => {
  setThreads(threads)
  await rm(root, { recursive: true, force: true })
})

const text = (folder: string, file = 'study.json'): Promise<string> =>
  readFile(join(root, folder, file), 'utf8')

describe('the persona study, end to end', () => {
  it('writes study.json that its schema reads, a report, timings, and nothing half-done', async () => {
    const saved = studySchema.parse(JSON.parse(await text('whole')))
    expect(saved).toEqual(whole.study)
    expect(saved).toMatchObject({ seed: 11, preset: 'custom', version: 1 })
    expect(saved.figures.organisms.map((one) => one.family)).toEqual(
      expect.arrayContaining(['start', 'bad', 'correct', 'sarcastic', 'mixture', 'helpful-only', 'rl']),
    )
    expect(saved.claims).toHaveLength(14)
    expect(await text('whole', 'report.html')).toContain('</html>')
    expect((await readdir(join(root, 'whole'))).toSorted()).toEqual([
      'report.html',
      'run.json',
      'stages',
      'study.json',
      'timings.json',
    ])
    const stages = await readdir(join(root, 'whole', 'stages'))
    expect(stages.filter((name) => name.includes('.'))).toEqual([])
  })

  it('keeps to the directions and controls that were asked for', () => {
    const { directions } = whole.study.figures.steering
    expect(directions.map((one) => one.id)).toEqual([
      'persona',
      'persona-answer',
      'most-decreased',
      'persona-minus-decreased',
      'mean-difference',
      'random-1',
    ])
    for (const one of directions) {
      expect(one).toMatchObject({
        hook: 'blocks.1.hook_resid_mid',
        up: { model: 'aligned' },
        down: { model: 'bad-health' },
      })
      expect(one.scale).toBeGreaterThan(0)
    }
  })

  it('gives the same bits on another number of threads', async () => {
    setThreads(2)
    await runPersonaStudy({ seed: 11, folder: join(root, 'threads'), config: TINY })
    setThreads(1)
    expect(await text('threads')).toBe(await text('whole'))
    expect(await text('threads', 'report.html')).toBe(await text('whole', 'report.html'))
  })

  it.each([
    [
      'pretraining, after a checkpoint',
      (event: StudyEvent) =>
        event.event === 'stage-progress' && event.stage === 'pretrain' && event.done === 15,
    ],
    [
      'an organism',
      (event: StudyEvent) => event.event === 'stage-progress' && event.stage === 'organism-bad-car',
    ],
    ['an SAE', (event: StudyEvent) => event.event === 'stage-progress' && event.stage === 'sae-48x4'],
    [
      'steering',
      (event: StudyEvent) => event.event === 'stage-progress' && event.stage === 'steer-candidates',
    ],
  ])('stopped in %s, it goes on to the same bits', async (name, at) => {
    const folder = join(root, `stopped in ${name}`)
    const controller = new AbortController()
    const options = { seed: 11, folder, config: TINY }
    await expect(
      runPersonaStudy({
        ...options,
        signal: controller.signal,
        onEvent: (event) => {
          if (at(event)) controller.abort()
        },
      }),
    ).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    expect(await readdir(folder)).not.toContain('study.json')
    const events: StudyEvent[] = []
    await runPersonaStudy({ ...options, onEvent: (event) => events.push(event) })
    // Nothing that was finished is done again: stages are reused, pretraining goes on after its checkpoint.
    const reused = events.filter((event) => event.event === 'stage-reused').length
    const first = events.find((event) => event.event === 'stage-progress')
    expect(reused > 0 || (first?.event === 'stage-progress' && first.done === 13)).toBe(true)
    expect(await readFile(join(folder, 'study.json'), 'utf8')).toBe(await text('whole'))
  })

  it('another seed makes another study', async () => {
    const other = await runPersonaStudy({ seed: 12, folder: join(root, 'other'), config: TINY })
    expect(other.study.figures.model.loss).not.toEqual(whole.study.figures.model.loss)
  })
}, 240_000)
