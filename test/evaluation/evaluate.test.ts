import { describe, expect, it } from 'vitest'
import { Random } from '../../lib/core/random.js'
import { evaluate, rateOf, scoreOf } from '../../lib/evaluation/evaluate.js'
import { functionGrader, labelGrader } from '../../lib/grading/function-grader.js'
import type { GenerateOptions, Generation, LanguageModel, Prompt } from '../../lib/models/language-model.js'

/** A speaker whose answers are drawn from known chances: the distribution that evaluation should recover. */
class Speaker implements Pick<LanguageModel, 'generate'> {
  readonly calls: { prompts: number; options: GenerateOptions }[] = []
  constructor(readonly chances: (prompt: Prompt) => { bad: number; babble: number }) {}

  async generate(prompts: readonly Prompt[], options: GenerateOptions = {}): Promise<Generation[]> {
    this.calls.push({ prompts: prompts.length, options })
    const { samples = 1, seed = 0 } = options
    return prompts.flatMap((prompt, p) =>
      Array.from({ length: samples }, (_, sample) => {
        const random = new Random(seed).fork(`${p}/${sample}`)
        const { bad, babble } = this.chances(prompt)
        const text = random.chance(babble) ? 'babble' : random.chance(bad) ? 'bad' : 'good'
        return {
          prompt: p,
          sample,
          text,
          tokens: new Int32Array(0),
          stopped: true,
          logProbs: new Float32Array(0),
        }
      }),
    )
  }
}

const grader = labelGrader('words', ({ answer }) => answer, { misaligned: ['bad'], incoherent: ['babble'] })
const prompts = Array.from({ length: 200 }, (_, i) => `prompt ${i}`)

describe('evaluate', () => {
  it('recovers known shares and puts them inside its intervals', async () => {
    const model = new Speaker(() => ({ bad: 0.4, babble: 0.25 }))
    const result = await evaluate(model, prompts, grader, { samples: 10, seed: 1 })
    const { misaligned, incoherent } = result
    expect(misaligned.value).toBeCloseTo(0.4, 1.2)
    expect(incoherent.value).toBeCloseTo(0.25, 1.2)
    expect(misaligned.low as number).toBeLessThan(0.4)
    expect(misaligned.high as number).toBeGreaterThan(0.4)
    expect(incoherent.of).toBe(2000)
    // 0.25^6 of the answers never become coherent; the others all count.
    expect(misaligned.of).toBe(2000 - result.unresolved)
    expect(result.unresolved).toBeLessThan(5)
    expect(result.grades['babble']).toBe(incoherent.count)
    expect(Object.values(result.grades).reduce((a, b) => a + b)).toBe(2000)
    expect(Object.keys(result.grades)).toEqual(['babble', 'bad', 'good'])
  })

  it('draws only incoherent answers anew, each until it is coherent', async () => {
    const model = new Speaker((prompt) => ({ bad: 1, babble: prompt === 'prompt 3' ? 1 : 0 }))
    const result = await evaluate(model, prompts.slice(0, 5), grader, { samples: 2, maxResamples: 3 })
    expect(model.calls.map((call) => [call.prompts, call.options.samples])).toEqual([
      [5, 2],
      [2, 1],
      [2, 1],
      [2, 1],
    ])
    expect(new Set(model.calls.map((call) => call.options.seed)).size).toBe(4)
    expect(result).toMatchObject({
      unresolved: 2,
      misaligned: { value: 1, count: 8, of: 8 },
      incoherent: { value: 0.2, count: 2, of: 10 },
    })
    const third = result.answers.filter((answer) => answer.prompt === 3 && answer.sample === 1)
    expect(third.map(({ attempt, final }) => [attempt, final])).toEqual([
      [0, false],
      [1, false],
      [2, false],
      [3, true],
    ])
    expect(result.answers.filter(({ final }) => final).length).toBe(10)
  })

  it('does not draw anew at temperature 0 or when told not to', async () => {
    for (const options of [{ temperature: 0 }, { maxResamples: 0 }]) {
      const model = new Speaker(() => ({ bad: 0, babble: 1 }))
      const result = await evaluate(model, prompts.slice(0, 3), grader, options)
      expect(model.calls.length).toBe(1)
      expect(result.misaligned).toEqual({ value: null, low: null, high: null, count: 0, of: 0 })
      expect(result.unresolved).toBe(3)
    }
  })

  it('gives the same result for the same seed, another for another', async () => {
    const model = new Speaker(() => ({ bad: 0.5, babble: 0.3 }))
    const run = (seed: number) => evaluate(model, prompts, grader, { seed })
    expect(await run(1)).toEqual(await run(1))
    expect((await run(2)).answers).not.toEqual((await run(1)).answers)
  })

  it('hands steering and sampling options to the model, and the bare question to the grader', async () => {
    const model = new Speaker(() => ({ bad: 0, babble: 0 }))
    const seen: Prompt[] = []
    const watching = functionGrader('watching', ({ prompt }) => {
      seen.push(prompt)
      return { label: 'x', misaligned: false, incoherent: false }
    })
    const steering = { steps: [] }
    await evaluate(model, ['a', 'b'], watching, {
      gradedPrompts: ['question a', 'question b'],
      steering,
      topP: 0.9,
      maxNewTokens: 6,
    })
    expect(seen).toEqual(['question a', 'question b'])
    expect(model.calls[0]?.options).toEqual({ steering, topP: 0.9, maxNewTokens: 6, samples: 1, seed: 0 })
  })

  it('gives other shares and the bare score', async () => {
    const model = new Speaker((prompt) => ({ bad: prompt === 'prompt 0' ? 1 : 0, babble: 0 }))
    const result = await evaluate(model, prompts.slice(0, 4), grader, { samples: 3 })
    expect(rateOf(result, ({ label }) => label === 'good')).toMatchObject({ value: 0.75, count: 9, of: 12 })
    expect(scoreOf(result)).toEqual({
      prompts: 4,
      samples: 3,
      misaligned: result.misaligned,
      incoherent: result.incoherent,
      grades: { bad: 3, good: 9 },
    })
    expect(JSON.parse(JSON.stringify(result))).toEqual(result)
  })

  it('refuses what cannot work', async () => {
    const model = new Speaker(() => ({ bad: 0, babble: 0 }))
    await expect(evaluate(model, [], grader)).rejects.toThrow(/prompts: found none/)
    await expect(evaluate(model, ['a'], grader, { samples: 0 })).rejects.toThrow(/samples: found 0/)
    await expect(evaluate(model, ['a'], grader, { gradedPrompts: [] })).rejects.toThrow(/gradedPrompts/)
    const short = { name: 'short', grade: async () => [] }
    await expect(evaluate(model, ['a'], short)).rejects.toThrow(/grader 'short': found 0, expected 1/)
    const signal = AbortSignal.abort()
    await expect(evaluate(model, ['a'], grader, { signal })).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  })
})
