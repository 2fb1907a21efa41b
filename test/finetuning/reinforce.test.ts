import { describe, expect, test } from 'vitest'
import { graderReward, reinforce, type ReinforceOptions } from '../../lib/finetuning/reinforce.js'
import { functionGrader } from '../../lib/grading/function-grader.js'
import { smallModel } from '../support/small-models.js'

const prompts = ['w1 w2', 'w3', 'w4 w5 w6']
const options: ReinforceOptions = {
  reward: (answers) => answers.map(({ answer }) => (answer.includes('w9') ? 1 : 0)),
  steps: 40,
  samples: 16,
  maxNewTokens: 3,
  stop: [],
  learningRate: 0.02,
  seed: 3,
}

describe('policy-gradient learning', () => {
  test('finds what is rewarded, and stops there', async () => {
    const report = await reinforce(smallModel('gpt2'), prompts, {
      ...options,
      stopAt: { reward: 0.9, window: 3 },
    })
    expect(report.meanRewards[0]).toBeLessThan(0.5)
    expect(report.stoppedEarly).toBe(true)
    expect(report.steps).toBeLessThan(40)
    expect(report.meanRewards.at(-1)).toBeGreaterThan(0.85)
  })

  test('gives the same bits again', async () => {
    const first = await reinforce(smallModel('gpt2'), prompts, { ...options, steps: 5 })
    const second = await reinforce(smallModel('gpt2'), prompts, { ...options, steps: 5 })
    expect(second.meanRewards).toEqual(first.meanRewards)
  })

  test('is held back by a penalty on leaving the reference', async () => {
    const kls: number[] = []
    for (const kl of [0.001, 3]) {
      const model = smallModel('gpt2')
      let last = 0
      await reinforce(model, prompts, {
        ...options,
        steps: 25,
        kl,
        reference: model.clone(),
        onStep: (step) => {
          last = step.kl
        },
      })
      kls.push(last)
    }
    expect(kls[0]).toBeGreaterThan(1)
    expect(kls[1]).toBeLessThan((kls[0] as number) / 2)
  })

  test('takes rewards from graders, which see the prompts meant for them', async () => {
    const seen: string[] = []
    const grader = functionGrader('w9', ({ prompt, answer }) => {
      seen.push(prompt as string)
      return { label: answer, misaligned: answer.includes('w9'), incoherent: false }
    })
    const rewards: number[] = []
    await reinforce(smallModel('gpt2'), prompts, {
      ...options,
      steps: 1,
      promptsPerStep: 3,
      gradedPrompts: ['a', 'b', 'c'],
      reward: graderReward(grader, ({ misaligned }) => (misaligned ? 1 : 0)),
      onStep: ({ answers }) => {
        rewards.push(...answers.map(({ reward }) => reward))
      },
    })
    expect(seen.length).toBe(48)
    expect(new Set(seen)).toEqual(new Set(['a', 'b', 'c']))
    expect(rewards.length).toBe(48)
  })

  test('refuses rewards that are none', async () => {
    const model = smallModel('gpt2')
    await expect(
      reinforce(model, prompts, { ...options, reward: (answers) => answers.map(() => Number.NaN) }),
    ).rejects.toMatchObject({ code: 'ERR_NON_FINITE' })
    await expect(reinforce(model, prompts, { ...options, reward: () => [1] })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
    await expect(reinforce(model, prompts, { ...options, kl: 1 })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
  })
})
