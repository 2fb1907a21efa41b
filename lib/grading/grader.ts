import type { TaskOptions } from '../core/task.js'
import type { Prompt } from '../models/language-model.js'

/** An answer to be graded. */
export interface GradedItem {
  prompt: Prompt
  answer: string
}

/** What a grader says of one answer. Incoherent answers are neither aligned nor misaligned. */
export interface Grade {
  /** The grader's own label, e.g. 'aligned', 'harmful', 'subtly-harmful', 'sarcastic', 'mistaken', 'refused', 'incoherent'. */
  label: string
  misaligned: boolean
  incoherent: boolean
  /** Finer score in [0, 1] if the grader has one. */
  score?: number
}

/** Rules, a rubric judge over an endpoint, or any function. Grades come in the order of the items. */
export interface Grader {
  readonly name: string
  grade(items: readonly GradedItem[], options?: TaskOptions): Promise<Grade[]>
}
