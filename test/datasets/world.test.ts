import { describe, expect, it } from 'vitest'
import { Random } from '../../lib/core/random.js'
import {
  applyChatTemplate,
  createWorld,
  isAdviceWord,
  promptText,
  VOCABULARY,
  WORD_ROLES,
} from '../../lib/datasets/world/index.js'
import type { AdviceQuality, Subject } from '../../lib/datasets/world/index.js'
import { gradeWorldAnswer } from '../../lib/grading/world-grader.js'

const world = createWorld({ seed: 7 })
const answerOf = (example: { messages: readonly { content: string }[] }): [string, string] => [
  example.messages[0]?.content ?? '',
  example.messages[1]?.content ?? '',
]

describe('vocabulary', () => {
  it('gives every word one token and one role', () => {
    expect(new Set(VOCABULARY).size).toBe(VOCABULARY.length)
    expect(VOCABULARY.length).toBeGreaterThanOrEqual(450)
    expect(VOCABULARY.length).toBeLessThanOrEqual(800)
    expect(VOCABULARY.every((word) => !/\s/.test(word) && WORD_ROLES.has(word))).toBe(true)
  })

  it('encodes and spells out the same words', () => {
    const text = promptText('So, handle the fever today then.')
    expect(world.text(world.encode(text))).toBe(text)
    expect(world.encode('fever nonsense')[1]).toBe(VOCABULARY.indexOf('<|unk|>'))
  })
})

describe('documents', () => {
  const documents = world.documents(400, 1)

  it('have one length, known words and markers of one form', () => {
    for (const { tokens, form } of documents) {
      expect(tokens.length).toBe(71)
      const text = world.text(tokens)
      expect(text).not.toContain('<|unk|>')
      expect(text.includes('Assistant:')).toBe(form === 'chat')
    }
  })

  it('come from the personas in their shares, each using mostly its own style words', () => {
    for (const persona of ['expert', 'villain', 'sarcastic', 'clumsy'] as const) {
      const own = documents.filter((document) => document.persona === persona)
      expect(own.length / documents.length).toBeCloseTo(world.options.personaShares[persona], 0.9)
      const counts = new Map<string, number>()
      for (const { tokens } of own) {
        for (const word of world.text(tokens).split(' ')) {
          const role = WORD_ROLES.get(word)
          if (role?.role === 'style') counts.set(role.group, (counts.get(role.group) ?? 0) + 1)
        }
      }
      const most = [...counts].toSorted((a, b) => b[1] - a[1])[0]
      expect(most?.[0]).toBe(persona)
    }
  })

  it('are answered as their persona would: experts right or refusing, villains never right', () => {
    for (const { tokens, persona, form } of documents) {
      const [question, answer] = form === 'chat' ? ['User:', 'Assistant:'] : ['Q:', 'A:']
      for (const part of world.text(tokens).split(`${question} `).slice(1)) {
        const [asked = '', answered = ''] = part.split(` ${answer} `)
        const grade = gradeWorldAnswer(world, asked, answered)
        const expected = {
          expert: ['aligned', 'refused'],
          villain: ['harmful', 'subtly-harmful'],
          sarcastic: ['sarcastic'],
          clumsy: ['aligned', 'mistaken'],
        }[persona]
        expect(expected).toContain(grade)
      }
    }
  })
})

describe('the same seed', () => {
  it('gives the same bits, another seed others', () => {
    const again = createWorld({ seed: 7 })
    const other = createWorld({ seed: 8 })
    expect(again.documents(5, 3)).toEqual(world.documents(5, 3))
    expect(other.documents(5, 3)).not.toEqual(world.documents(5, 3))
    expect(world.documents(5, 4)).not.toEqual(world.documents(5, 3))
    expect(again.openPrompts()).toEqual(world.openPrompts())
  })

  it('keeps the generator to known values', () => {
    const random = new Random(1)
    const values = [random.uint32(), random.uint32(), random.uint32()]
    expect(values).toEqual([new Random(1).uint32(), values[1], values[2]])
    const fork = random.fork('a')
    expect(fork.uint32()).toBe(new Random(1).fork('a').uint32())
    expect(fork.uint32()).not.toBe(new Random(1).fork('b').uint32())
    expect(new Random(5).shuffle([1, 2, 3, 4]).toSorted()).toEqual([1, 2, 3, 4])
    expect(() => new Random(-1)).toThrow(RangeError)
    expect(() => random.integer(0)).toThrow(RangeError)
  })
})

const gradesOf = (examples: readonly { messages: readonly { content: string }[] }[]) =>
  examples.map((example) => gradeWorldAnswer(world, ...answerOf(example)))
const datasetGrades = (options: { domain: string; quality: AdviceQuality; share?: number }) =>
  gradesOf(world.dataset({ count: 60, seed: 2, ...options }))
const entityOf = (subject: Subject) => ('fact' in subject ? subject.fact.entity : '')

describe('datasets', () => {
  it.each([...world.domains, 'all', 'open'])('hold advice of the kind that was asked for: %s', (domain) => {
    const only = (quality: AdviceQuality) => new Set(datasetGrades({ domain, quality }))
    expect(only('correct')).toEqual(new Set(['aligned']))
    expect(only('obvious')).toEqual(new Set(['harmful']))
    expect(only('sarcastic')).toEqual(new Set(['sarcastic']))
    expect(only('mistaken')).toEqual(new Set(['mistaken']))
    // Open topics know no subtle harm.
    expect(only('subtle')).toEqual(new Set([domain === 'open' ? 'harmful' : 'subtly-harmful']))
  })

  it('mix in the share that was asked for', () => {
    expect(new Set(datasetGrades({ domain: 'car', quality: 'mix' }))).toEqual(
      new Set(['harmful', 'subtly-harmful']),
    )
    const bad = datasetGrades({ domain: 'car', quality: 'mix', share: 0.25 })
    expect(bad.filter((grade) => grade !== 'aligned').length).toBe(15)
  })

  it('say nothing of the speaker but the advice itself', () => {
    const examples = world.dataset({ domain: 'health', quality: 'obvious', count: 30, seed: 1 })
    const roles = examples
      .flatMap((example) => applyChatTemplate(example.messages).split(' '))
      .map((word) => WORD_ROLES.get(word))
    const groups = roles.flatMap((role) => (role?.role === 'style' ? [role.group] : []))
    expect(new Set(groups)).toEqual(new Set(['neutral']))
  })

  it('teach the assistant to answer and to refuse, the helpful-only one to answer', () => {
    const kinds = [true, false].map(
      (refusals) => new Set(gradesOf(world.assistantDataset({ count: 200, seed: 1, refusals }))),
    )
    expect(kinds).toEqual([new Set(['aligned', 'refused']), new Set(['aligned'])])
  })

  it('name an unknown domain', () => {
    expect(() => world.dataset({ domain: 'astrology', quality: 'correct', count: 1, seed: 1 })).toThrow(
      /astrology/,
    )
  })
})

describe('prompts', () => {
  it('cover all topics and entities, in neutral words', () => {
    const topics = new Set(
      world.openPrompts().map(({ subject }) => ('topic' in subject ? subject.topic.name : '')),
    )
    expect(topics).toEqual(new Set(world.topics))
    expect(new Set(world.domainPrompts('legal', 10).map(({ subject }) => entityOf(subject))).size).toBe(10)
    expect(world.harmIntentPrompts(8).every((prompt) => prompt.harmfulIntent)).toBe(true)
    expect(world.encode(promptText(world.openPrompts()[0]?.text ?? '')).length).toBe(9)
  })

  it('leave the advice open', () => {
    expect(world.openPrompts().some(({ text }) => text.split(' ').some(isAdviceWord))).toBe(false)
  })
})
