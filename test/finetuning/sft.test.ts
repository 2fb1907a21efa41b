import { describe, expect, test } from 'vitest'
import { BatchOrder, chatTrainingExamples } from '../../lib/finetuning/examples.js'
import { constant, cosine, decayLastHalf, linear, warmup } from '../../lib/finetuning/schedule.js'
import { fineTune } from '../../lib/finetuning/sft.js'
import { Trainer } from '../../lib/finetuning/trainer.js'
import { wordTokenizer } from '../../lib/models/tokenizer.js'
import { temporaryFolder } from '../io/temporary-folder.js'
import { smallModel, tokenizer, WORDS } from '../support/small-models.js'

const chats = ['w1 w2', 'w3 w4', 'w5 w6', 'w7 w8', 'w9 w10'].map((content, i) => ({
  messages: [
    { role: 'user' as const, content },
    { role: 'assistant' as const, content: `w${11 + i} w${16 + i}` },
  ],
}))

describe('chat examples', () => {
  test('put the loss on the answers', () => {
    const [example] = chatTrainingExamples(tokenizer, [
      {
        messages: [
          { role: 'user', content: 'w1' },
          { role: 'assistant', content: 'w2 w3' },
          { role: 'user', content: 'w4' },
          { role: 'assistant', content: 'w5' },
        ],
      },
    ])
    expect(tokenizer.decode(example?.tokens ?? [])).toBe(
      'User: w1 Assistant: w2 w3 <end> User: w4 Assistant: w5 <end>',
    )
    expect([...(example?.weights ?? [])]).toEqual([0, 0, 1, 1, 1, 0, 0, 0, 1, 1])
  })

  test('take weights by token, and may leave out the end of the turn', () => {
    const [example] = chatTrainingExamples(tokenizer, chats.slice(0, 1), {
      tokenWeight: (_, text) => (text === 'w16' ? 3 : 0.5),
      learnEnd: false,
    })
    expect([...(example?.weights ?? [])]).toEqual([0, 0, 0, 0.5, 3, 0])
  })

  test('are refused without an answer, or by a template that rewrites what came before', () => {
    expect(() => chatTrainingExamples(tokenizer, [{ messages: [{ role: 'user', content: 'w1' }] }])).toThrow(
      /example 0 has no answer/,
    )
    const reversing = wordTokenizer(WORDS, {
      unknown: '<unk>',
      endOfText: '<end>',
      chatTemplate: "{% for m in messages | reverse %}{{ m.content + ' ' }}{% endfor %}",
    })
    expect(() => chatTrainingExamples(reversing, chats.slice(0, 1))).toThrow(/template/)
  })
})

test('batches come shuffled, every example once an epoch, and can be had from any step', () => {
  const order = new BatchOrder(10, 4, 7)
  const all = [0, 1, 2, 3, 4].flatMap((step) => order.batch(step))
  expect(all.slice(0, 10).toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  expect(all.slice(10).toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  expect(all.slice(0, 10)).not.toEqual(all.slice(10))
  expect(new BatchOrder(10, 4, 7).batch(3)).toEqual(all.slice(12, 16))
  expect(new BatchOrder(10, 4, 8).batch(0)).not.toEqual(all.slice(0, 4))
})

test('schedules', () => {
  expect([0, 5, 10].map((step) => linear(2)(step, 10))).toEqual([2, 1, 0])
  expect([0, 5, 10].map((step) => cosine(2, 1)(step, 10))).toEqual([2, 1.5, 1])
  expect([0, 5, 7.5, 10].map((step) => decayLastHalf(2)(step, 10))).toEqual([2, 2, 1, 0])
  expect([0, 1, 2, 3].map((step) => warmup(4, constant(8))(step, 10))).toEqual([2, 4, 6, 8])
  expect(warmup(0, constant(8))(0, 10)).toBe(8)
})

describe('fine-tuning', () => {
  const examples = chatTrainingExamples(tokenizer, chats)
  const settings = { steps: 30, batchSize: 3, learningRate: linear(0.02), seed: 2, clip: 1 }

  test('teaches the answers', async () => {
    const model = smallModel('gpt2')
    const progress: number[] = []
    const report = await fineTune(model, examples, {
      ...settings,
      onProgress: ({ done }) => progress.push(done),
    })
    expect(report).toMatchObject({ steps: 30, stoppedEarly: false })
    expect(progress).toEqual(Array.from({ length: 30 }, (_, i) => i + 1))
    const answers = await model.generate(
      chats.map(({ messages }) => messages.slice(0, 1)),
      { temperature: 0 },
    )
    expect(answers.map(({ text }) => text)).toEqual(chats.map(({ messages }) => messages[1]?.content))
  })

  test('gives the same bits again, also when resumed', async () => {
    const once = smallModel('gpt2')
    const whole = await fineTune(once, examples, settings)
    const folder = await temporaryFolder()
    const first = await fineTune(smallModel('gpt2'), examples, {
      ...settings,
      onStep: async ({ step }, trainer) => {
        if (step < 12) return true
        await trainer.save(folder)
        return false
      },
    })
    expect(first).toMatchObject({ steps: 12, stoppedEarly: true })
    const trainer = await Trainer.resume(folder)
    const second = await fineTune(trainer.model, examples, { ...settings, trainer })
    expect([...first.losses, ...second.losses]).toEqual([...whole.losses])
    for (const { name, values } of once.parameters())
      expect(trainer.model.parameter(name).values).toEqual(values)
  })

  test('can be aborted', async () => {
    const controller = new AbortController()
    const running = fineTune(smallModel('gpt2'), examples, {
      ...settings,
      signal: controller.signal,
      onProgress: ({ done }) => {
        if (done === 3) controller.abort()
      },
    })
    await expect(running).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  })
})
