/** What a stage of a study is, and what it is given when it runs. */
import type { Progress } from '../core/task.js'

/** One thing said by a model, shown while the study runs. */
export interface SpokenSample {
  /** Who speaks, e.g. 'before fine-tuning'. */
  voice: string
  prompt: string
  answer: string
  grade: string
}

export interface StageContext {
  /** Folder of this stage: files written here are kept with the result. */
  readonly dir: string
  readonly signal: AbortSignal
  /** A seed of its own for each purpose, derived from the study's seed. */
  seed(label: string): number
  progress(step: string, progress: Progress): void
  sample(sample: SpokenSample): void
  /** The result of an input stage. */
  result<Result>(stage: Stage<Result>): Result
  /** Where an input stage kept a file. */
  file(stage: Stage, name: string): string
  /** Values shared by the stages of one run (loaded models, worlds); never saved. */
  readonly cache: Map<string, unknown>
}

/**
 * A step of a study with a saved result. It runs again when the seed, its `config`, the package's version or what
 * its inputs produced has changed, and only then. Results are JSON; whatever is big goes to files in its folder.
 */
export interface Stage<Result = unknown> {
  /** Folder name: lower-case words joined by dashes. */
  readonly id: string
  /** Stages of one group are shown as one line. */
  readonly group: string
  readonly title: string
  readonly inputs: readonly Stage[]
  /** Everything that the result depends on besides seed and inputs; plain JSON. */
  readonly config: unknown
  /** Rough cost, in seconds on two cores; used only to tell the time left. */
  readonly cost: number
  run(context: StageContext): Promise<Result>
}

/** What a running study tells. Events come in order; times are in seconds. */
export type StudyEvent =
  | { event: 'plan'; groups: { id: string; title: string; stages: string[] }[]; secondsLeft: number }
  | { event: 'stage-started'; stage: string; group: string; title: string; secondsLeft: number }
  | { event: 'stage-reused'; stage: string; group: string; title: string; secondsLeft: number }
  | {
      event: 'stage-progress'
      stage: string
      group: string
      step: string
      done: number
      total: number
      unit: string
      secondsLeft: number
    }
  | { event: 'stage-finished'; stage: string; group: string; seconds: number; secondsLeft: number }
  | ({ event: 'sample'; stage: string; group: string } & SpokenSample)
  | { event: 'warning'; stage: string; group: string; message: string }
  | { event: 'finished'; seconds: number; reused: number; computed: number }
