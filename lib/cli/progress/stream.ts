/** Progress of one long pass over tokens: how far, tokens/s, time left. */
import type { Progress } from '../../core/task.js'
import { formatSeconds } from '../../study/format.js'
import type { Terminal } from '../program.js'

export interface StreamProgress {
  /** Begins a step, e.g. 'base'; `onProgress` of what then runs. */
  step(name: string): (progress: Progress) => void
  /** Leaves the terminal tidy. */
  close(): void
}

const PLAIN_EVERY_MS = 10_000
const OFTEN_MS = 100

/** With `json` one object a line on stderr; on a terminal one line that is rewritten; else a line now and then. */
export function streamProgress(terminal: Terminal, json: boolean): StreamProgress {
  const { stderr } = terminal
  const live = !json && Boolean(stderr.isTTY) && terminal.env['TERM'] !== 'dumb'
  const every = json || live ? OFTEN_MS : PLAIN_EVERY_MS
  let drawn = false
  const write = (name: string, { done, total, unit }: Progress, rate: number): void => {
    const secondsLeft = rate > 0 && total > 0 ? (total - done) / rate : undefined
    if (json) {
      stderr.write(
        `${JSON.stringify({ event: 'progress', step: name, done, total, unit, perSecond: Math.round(rate), secondsLeft: secondsLeft === undefined ? null : Math.round(secondsLeft) })}\n`,
      )
      return
    }
    const share = total > 0 ? ` ${Math.floor((100 * done) / total)} %` : ''
    const of = total > 0 ? `${done} of ${total}` : String(done)
    const left = secondsLeft === undefined || done === total ? '' : ` · ${formatSeconds(secondsLeft)} left`
    const line = `${name}:${share} · ${of} ${unit} · ${Math.round(rate)} ${unit}/s${left}`
    stderr.write(live ? `\r\u001b[K${line.slice(0, (stderr.columns ?? 80) - 1)}` : `${line}\n`)
    drawn = live
  }
  return {
    step(name) {
      let first: { done: number; at: number } | undefined
      let last = performance.now()
      return (progress) => {
        const now = performance.now()
        // What a resumed run finds done says nothing of the speed.
        first ??= { done: progress.done, at: now }
        const ended = progress.done === progress.total
        if (now - last < every && !ended) return
        last = now
        const seconds = (now - first.at) / 1000
        write(name, progress, seconds > 0 ? (progress.done - first.done) / seconds : 0)
        if (ended && drawn) {
          stderr.write('\n')
          drawn = false
        }
      }
    },
    close() {
      if (drawn) stderr.write('\n')
      drawn = false
    },
  }
}
