/** Runs stages in order, reusing what is saved and unchanged. */
import type { Progress, TaskOptions } from '../core/task.js'
import { throwIfAborted } from '../core/task.js'
import { PersonascopeError, toPersonascopeError } from '../core/errors.js'
import { version } from '../version.js'
import { canonicalJson, deriveSeed, sha256 } from './canonical.js'
import type { Stage, StageContext, StudyEvent } from './stage.js'
import { StudyFolder } from './study-folder.js'
import type { SavedStage, StudyIdentity } from './study-folder.js'

export interface StudyRunOptions extends Pick<TaskOptions, 'signal'> {
  onEvent?: ((event: StudyEvent) => void) | undefined
}

/** Seconds of every stage, as computed now or when it was saved. */
export type StageTimings = Record<string, number>

/** Bits that decide a stage's result besides its inputs' contents. */
function stageKey(stage: Stage, seed: number, inputs: readonly string[]): string {
  return sha256(canonicalJson({ package: version, stage: stage.id, seed, config: stage.config, inputs }))
}

/**
 * A list of stages with saved results. Killed at any time, the same study continues where it was and comes to the
 * same result: a stage's key covers the seed, its configuration and the checksums of what its inputs produced.
 */
export class Study {
  readonly stages: readonly Stage[]
  readonly identity: StudyIdentity

  /** `stages` in an order in which inputs come first. */
  constructor(stages: readonly Stage[], identity: StudyIdentity) {
    const seen = new Set<Stage>()
    const ids = new Set<string>()
    for (const stage of stages) {
      if (ids.has(stage.id))
        throw new PersonascopeError('ERR_INVALID_ARGUMENT', `two stages are called '${stage.id}'`)
      for (const input of stage.inputs)
        if (!seen.has(input))
          throw new PersonascopeError(
            'ERR_INVALID_ARGUMENT',
            `stage '${stage.id}' needs '${input.id}', which does not come before it`,
          )
      seen.add(stage)
      ids.add(stage.id)
    }
    this.stages = stages
    this.identity = identity
  }

  /**
   * Runs what is missing in `folder`; resolves to the results by stage. Rejects with `ERR_ABORTED` when the signal
   * fires (finished stages stay saved), or with the error of the stage that failed.
   */
  async run(
    folder: StudyFolder,
    options: StudyRunOptions = {},
  ): Promise<{ result<Result>(stage: Stage<Result>): Result; timings: StageTimings }> {
    const saved = new Map<Stage, SavedStage>()
    const cache = new Map<string, unknown>()
    const timings: StageTimings = {}
    const clock = new Clock(this.stages)
    const tell = options.onEvent ?? (() => {})
    const counts = { reused: 0, computed: 0 }
    tell({ event: 'plan', groups: this.#groups(), secondsLeft: clock.secondsLeft() })
    for (const stage of this.stages) {
      throwIfAborted({ signal: options.signal })
      const inputs = stage.inputs.map((input) => this.#need(saved, input).digest)
      const key = stageKey(stage, this.identity.seed, inputs)
      const base = { stage: stage.id, group: stage.group }
      const found = await folder.load(stage.id, key)
      if (found && 'digest' in found) {
        saved.set(stage, found)
        timings[stage.id] = found.seconds
        counts.reused++
        clock.skip(stage)
        tell({ event: 'stage-reused', ...base, title: stage.title, secondsLeft: clock.secondsLeft() })
        continue
      }
      if (found)
        tell({
          event: 'warning',
          ...base,
          message: `saved result not used: ${found.reason}; computing it again`,
        })
      tell({ event: 'stage-started', ...base, title: stage.title, secondsLeft: clock.secondsLeft() })
      clock.start(stage)
      try {
        const context: StageContext = {
          dir: await folder.begin(stage.id, key),
          signal: options.signal ?? new AbortController().signal,
          seed: (label) => deriveSeed(this.identity.seed, label),
          progress: (step: string, { done, total, unit }: Progress) => {
            clock.progress(done, total)
            tell({
              event: 'stage-progress',
              ...base,
              step,
              done,
              total,
              unit,
              secondsLeft: clock.secondsLeft(),
            })
          },
          sample: (sample) => tell({ event: 'sample', ...base, ...sample }),
          result: <Result>(input: Stage<Result>) => this.#need(saved, input, stage).result as Result,
          file: (input, name) => {
            this.#need(saved, input, stage)
            return `${folder.stagePath(input.id)}/${name}`
          },
          cache,
        }
        const result = await stage.run(context)
        throwIfAborted({ signal: options.signal })
        const seconds = clock.finish(stage)
        saved.set(stage, await folder.commit(stage.id, key, result, seconds))
        timings[stage.id] = seconds
        counts.computed++
        tell({ event: 'stage-finished', ...base, seconds, secondsLeft: clock.secondsLeft() })
      } catch (error) {
        throw toPersonascopeError(error, `stage '${stage.id}'`)
      }
    }
    tell({ event: 'finished', seconds: clock.elapsed(), ...counts })
    return { result: (stage) => this.#need(saved, stage).result as never, timings }
  }

  #groups(): { id: string; title: string; stages: string[] }[] {
    const groups = new Map<string, string[]>()
    for (const stage of this.stages) {
      const ids = groups.get(stage.group) ?? []
      ids.push(stage.id)
      groups.set(stage.group, ids)
    }
    return [...groups].map(([id, stages]) => ({ id, title: id, stages }))
  }

  /** A stage reads only its declared inputs: what it read but did not declare would be missing from its key. */
  #need(saved: Map<Stage, SavedStage>, input: Stage, reader?: Stage): SavedStage {
    const found = saved.get(input)
    if (!found || (reader && !reader.inputs.includes(input)))
      throw new PersonascopeError(
        'ERR_INTERNAL',
        `stage '${input.id}' is not an input${reader ? ` of '${reader.id}'` : ' that ran'}`,
      )
    return found
  }
}

/** Tells the time left from the stages' rough costs, scaled by how long the finished ones really took. */
class Clock {
  readonly #begun = performance.now()
  readonly #open: Set<Stage>
  #planned = 0
  #spent = 0
  #current: { stage: Stage; since: number; share: number } | undefined

  constructor(stages: readonly Stage[]) {
    this.#open = new Set(stages)
  }

  start(stage: Stage): void {
    this.#current = { stage, since: performance.now(), share: 0 }
  }

  progress(done: number, total: number): void {
    if (this.#current && total > 0) this.#current.share = Math.min(1, done / total)
  }

  skip(stage: Stage): void {
    this.#open.delete(stage)
  }

  finish(stage: Stage): number {
    const seconds = this.#current ? (performance.now() - this.#current.since) / 1000 : 0
    this.#open.delete(stage)
    this.#planned += stage.cost
    this.#spent += seconds
    this.#current = undefined
    return seconds
  }

  elapsed(): number {
    return (performance.now() - this.#begun) / 1000
  }

  secondsLeft(): number {
    let left = 0
    for (const stage of this.#open) left += stage.cost
    let planned = this.#planned
    let spent = this.#spent
    if (this.#current) {
      const done = this.#current.stage.cost * this.#current.share
      left -= done
      planned += done
      spent += (performance.now() - this.#current.since) / 1000
    }
    // A prior of 20 s keeps the first minutes from being ruled by one small stage.
    const pace = (spent + 20) / (planned + 20)
    return Math.max(0, Math.round(left * pace))
  }
}
