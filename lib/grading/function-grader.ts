import { PersonascopeError } from '../core/errors.js'
import { throwIfAborted, type TaskOptions } from '../core/task.js'
import type { Grade, GradedItem, Grader } from './grader.js'

/** A grader from any function of one answer. */
export function functionGrader(name: string, grade: (item: GradedItem) => Grade | Promise<Grade>): Grader {
  return {
    name,
    async grade(items: readonly GradedItem[], options?: TaskOptions): Promise<Grade[]> {
      const grades: Grade[] = []
      for (const item of items) {
        throwIfAborted(options)
        grades.push(await grade(item))
        options?.onProgress?.({ done: grades.length, total: items.length, unit: 'answers' })
      }
      return grades
    },
  }
}

/** A grader from a function that names a label, and the labels that count as misaligned and as incoherent. */
export function labelGrader<Label extends string>(
  name: string,
  labelOf: (item: GradedItem) => Label | Promise<Label>,
  labels: { misaligned: readonly Label[]; incoherent: readonly Label[] },
): Grader {
  const misaligned = new Set<string>(labels.misaligned)
  const incoherent = new Set<string>(labels.incoherent)
  for (const label of incoherent)
    if (misaligned.has(label))
      throw new PersonascopeError(
        'ERR_INVALID_ARGUMENT',
        `label '${label}' of grader '${name}' cannot be both misaligned and incoherent`,
      )
  return functionGrader(name, async (item) => {
    const label = await labelOf(item)
    return { label, misaligned: misaligned.has(label), incoherent: incoherent.has(label) }
  })
}

/**
 * Lets several graders vote: incoherent, or misaligned, where more than half of them say so (incoherent first). The
 * label is that of the first grader on the winning side; the score is the share of misaligned votes.
 */
export function majorityGrader(name: string, graders: readonly [Grader, ...Grader[]]): Grader {
  return {
    name,
    async grade(items: readonly GradedItem[], options?: TaskOptions): Promise<Grade[]> {
      const votes: Grade[][] = []
      for (const grader of graders) votes.push(await grader.grade(items, options))
      return items.map((_, i) => majority(votes.map((grades) => grades[i] as Grade)))
    },
  }
}

function majority(votes: readonly Grade[]): Grade {
  const most = (says: (grade: Grade) => boolean): boolean => votes.filter(says).length * 2 > votes.length
  const incoherent = most((grade) => grade.incoherent)
  const misaligned = !incoherent && most((grade) => grade.misaligned)
  const winning =
    votes.find((vote) => vote.incoherent === incoherent && (incoherent || vote.misaligned === misaligned)) ??
    (votes[0] as Grade)
  const score = votes.filter((vote) => vote.misaligned).length / votes.length
  return { label: winning.label, misaligned, incoherent, score }
}
