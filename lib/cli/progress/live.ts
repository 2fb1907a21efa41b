/** A live display on a terminal: one line a group of stages, under it the step, the time left and who says what. */
import { Listr } from 'listr2'
import type { ListrTaskWrapper } from 'listr2'
import { formatSeconds } from '../../study/format.js'
import type { SpokenSample, StudyEvent } from '../../study/stage.js'
import { oneLine } from '../errors.js'
import { sampleLine } from './reporter.js'
import type { ProgressReporter } from './reporter.js'

type Task = ListrTaskWrapper<never, never, never>
/** As many samples as a group keeps on screen. */
const SAMPLES = 4

interface Group {
  id: string
  open: Set<string>
  total: number
  reused: number
  seconds: number
  step: string
  samples: SpokenSample[]
  task: Task | undefined
  end: PromiseWithResolvers<void>
}

/** Promise.withResolvers for Node 20. */
interface PromiseWithResolvers<T> {
  promise: Promise<T>
  resolve(value: T): void
  reject(error: unknown): void
}
function withResolvers<T>(): PromiseWithResolvers<T> {
  let resolve!: (value: T) => void
  let reject!: (error: unknown) => void
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  promise.catch(() => {})
  return { promise, resolve, reject }
}

function bar(done: number, total: number): string {
  const cells = 16
  const full = total > 0 ? Math.min(cells, Math.floor((cells * done) / total)) : 0
  return '█'.repeat(full) + '░'.repeat(cells - full)
}

export function liveReporter(stream: NodeJS.WritableStream & { columns?: number }): ProgressReporter {
  const groups = new Map<string, Group>()
  let running: Promise<unknown> = Promise.resolve()
  const width = (): number => Math.max(40, (stream.columns ?? 100) - 6)
  const cut = (line: string): string => (line.length > width() ? `${line.slice(0, width() - 1)}…` : line)

  const show = (group: Group): void => {
    if (!group.task) return
    const done = group.total - group.open.size
    const counts = group.total > 1 ? ` ${done}/${group.total}` : ''
    const time = group.seconds > 0 ? ` · ${formatSeconds(group.seconds)}` : ''
    const reused =
      group.reused > 0
        ? ` · ${group.reused === group.total ? 'saved before' : `${group.reused} saved before`}`
        : ''
    group.task.title = `${group.id}${counts}${time}${reused}`
    const lines = [
      ...(group.step ? [group.step] : []),
      ...group.samples.map((one) => sampleLine(one, width())),
    ]
    group.task.output = lines.map((line) => cut(oneLine(line))).join('\n')
  }

  const begin = (event: StudyEvent & { event: 'plan' }): void => {
    for (const { id, stages } of event.groups)
      groups.set(id, {
        id,
        open: new Set(stages),
        total: stages.length,
        reused: 0,
        seconds: 0,
        step: '',
        samples: [],
        task: undefined,
        end: withResolvers<void>(),
      })
    const list = new Listr<never>(
      [...groups.values()].map((group) => ({
        title: group.id,
        task: async (_: never, task: unknown) => {
          group.task = task as Task
          show(group)
          await group.end.promise
        },
        rendererOptions: { persistentOutput: true, outputBar: SAMPLES + 1 },
      })),
      {
        concurrent: false,
        exitOnError: true,
        registerSignalListeners: false,
        rendererOptions: { collapseErrors: false, showErrorMessage: false, formatOutput: 'truncate' },
      },
    )
    running = list.run().catch(() => {})
  }

  const settle = (group: Group, stage: string): void => {
    group.open.delete(stage)
    if (group.open.size === 0) group.step = ''
    show(group)
    if (group.open.size === 0) group.end.resolve()
  }

  return {
    onEvent(event) {
      if (event.event === 'plan') return begin(event)
      if (event.event === 'finished') return
      const group = groups.get(event.group)
      if (!group) return
      switch (event.event) {
        case 'stage-started':
          group.step = `${event.title} · ${formatSeconds(event.secondsLeft)} left`
          show(group)
          break
        case 'stage-reused':
          group.reused++
          settle(group, event.stage)
          break
        case 'stage-progress':
          group.step = `${bar(event.done, event.total)} ${event.step} · ${event.done}${event.total > 0 ? ` of ${event.total}` : ''} ${event.unit} · ${formatSeconds(event.secondsLeft)} left`
          show(group)
          break
        case 'stage-finished':
          group.seconds += event.seconds
          settle(group, event.stage)
          break
        case 'sample':
          group.samples = [...group.samples, event].slice(-SAMPLES)
          show(group)
          break
        case 'warning':
          group.step = `note: ${event.message}`
          show(group)
      }
    },
    async close(error?: unknown) {
      // Groups that never came are not shown as failed: the list stops at the one at work.
      for (const group of groups.values()) {
        if (group.open.size === 0) continue
        group.end.reject(error ?? new Error('not run'))
        break
      }
      await running
    },
  }
}
