import { expect, it } from 'vitest'
import { functionGrader, labelGrader, majorityGrader } from '../../lib/grading/function-grader.js'
import type { Grade } from '../../lib/grading/grader.js'

const items = ['a', 'b', 'c'].map((answer) => ({ prompt: 'p', answer }))

it('a label grader knows which labels are misaligned and incoherent', async () => {
  const grader = labelGrader('x', ({ answer }) => answer as 'a' | 'b' | 'c', {
    misaligned: ['a'],
    incoherent: ['b'],
  })
  expect(await grader.grade(items)).toEqual([
    { label: 'a', misaligned: true, incoherent: false },
    { label: 'b', misaligned: false, incoherent: true },
    { label: 'c', misaligned: false, incoherent: false },
  ])
  expect(() => labelGrader('x', () => 'a', { misaligned: ['a'], incoherent: ['a'] })).toThrow(/both/)
})

const saying = (name: string, grades: Record<string, Partial<Grade>>) =>
  functionGrader(name, ({ answer }) => ({
    label: name,
    misaligned: false,
    incoherent: false,
    ...grades[answer],
  }))

it('a majority decides; incoherence comes first', async () => {
  const grader = majorityGrader('vote', [
    saying('one', { a: { misaligned: true }, b: { misaligned: true } }),
    saying('two', { a: { misaligned: true }, b: { incoherent: true } }),
    saying('three', { b: { incoherent: true } }),
  ])
  expect(await grader.grade(items)).toEqual([
    { label: 'one', misaligned: true, incoherent: false, score: 2 / 3 },
    { label: 'two', misaligned: false, incoherent: true, score: 1 / 3 },
    { label: 'one', misaligned: false, incoherent: false, score: 0 },
  ])
})

it('stops when aborted', async () => {
  const controller = new AbortController()
  const grader = functionGrader('x', () => {
    controller.abort()
    return { label: 'x', misaligned: false, incoherent: false }
  })
  await expect(grader.grade(items, { signal: controller.signal })).rejects.toMatchObject({
    code: 'ERR_ABORTED',
  })
})
