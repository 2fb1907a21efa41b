import type { SpokenSample, StudyEvent } from '../../study/stage.js'
import { oneLine } from '../errors.js'

/** Shows a running study. */
export interface ProgressReporter {
  onEvent(event: StudyEvent): void
  /** The study ended, well or not: leave the terminal tidy. Resolves once everything is written. */
  close(): Promise<void>
}

/** '  before fine-tuning   "how to handle burnout …"  →  "simply schedule …"  (aligned)', cut to `width`. */
export function sampleLine({ voice, prompt, answer, grade }: SpokenSample, width = 160): string {
  const line = `${voice.padEnd(20)} “${oneLine(prompt)}” → “${oneLine(answer)}” (${oneLine(grade)})`
  return line.length > width ? `${line.slice(0, width - 1)}…` : line
}
