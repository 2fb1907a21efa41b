import { formatSeconds } from '../../study/format.js'
import { oneLine } from '../errors.js'
import { sampleLine } from './reporter.js'
import type { ProgressReporter } from './reporter.js'

const EVERY_MS = 10_000

/** Plain lines for logs and pipes: a line a stage, a step every ten seconds, what the models say. */
export function plainReporter(stream: NodeJS.WritableStream): ProgressReporter {
  const stages = { total: 0, seen: 0 }
  let last = performance.now()
  const write = (line: string): void => void stream.write(`${line}\n`)
  const number = (): string =>
    `[${String(stages.seen).padStart(String(stages.total).length)}/${stages.total}]`
  return {
    onEvent(event) {
      switch (event.event) {
        case 'plan':
          stages.total = event.groups.reduce((sum, group) => sum + group.stages.length, 0)
          write(`${stages.total} stages, about ${formatSeconds(event.secondsLeft)}`)
          break
        case 'stage-started':
          stages.seen++
          last = performance.now()
          write(`${number()} ${event.group}: ${event.title} · ${formatSeconds(event.secondsLeft)} left`)
          break
        case 'stage-reused':
          stages.seen++
          write(`${number()} ${event.group}: ${event.title} · saved before`)
          break
        case 'stage-progress': {
          const now = performance.now()
          if (now - last < EVERY_MS) break
          last = now
          const of = event.total > 0 ? `${event.done} of ${event.total}` : String(event.done)
          write(`  ${event.step}: ${of} ${event.unit} · ${formatSeconds(event.secondsLeft)} left`)
          break
        }
        case 'sample':
          write(`  ${sampleLine(event)}`)
          break
        case 'warning':
          write(`  note: ${oneLine(event.message)}`)
          break
        case 'stage-finished':
          break
        case 'finished':
          write(
            `finished in ${formatSeconds(event.seconds)}: ${event.computed} stages computed, ${event.reused} saved before`,
          )
      }
    },
    close: () => Promise.resolve(),
  }
}
