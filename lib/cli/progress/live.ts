/** A live display on a terminal: a line a group of stages, the step, the time left, and what the models say. */
import { formatSeconds } from '../../study/format.js'
import type { SpokenSample, StudyEvent } from '../../study/stage.js'
import { oneLine } from '../errors.js'
import { sampleLine } from './reporter.js'
import type { ProgressReporter } from './reporter.js'

const SPINNER = '⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏'
const BAR_CELLS = 24
const SAMPLES = 6
const FRAME_MS = 100

interface Group {
  id: string
  total: number
  done: number
  reused: number
  seconds: number
  /** Title of the stage at work. */
  current: string
}

export interface LiveTerminal extends NodeJS.WritableStream {
  columns?: number
  rows?: number
}

export function liveReporter(stream: LiveTerminal, colours: boolean): ProgressReporter {
  const groups = new Map<string, Group>()
  const notes: string[] = []
  let samples: SpokenSample[] = []
  let step = ''
  let secondsLeft = 0
  let drawn = 0
  let frame = 0
  const begun = performance.now()
  const paint = (code: number, text: string): string => (colours ? `\u001b[${code}m${text}\u001b[0m` : text)

  /** Lines as [text, colour]: cut to the terminal's width before colours come in. */
  const lines = (final: boolean): [string, number][] => {
    const width = Math.max(...[...groups.keys()].map((id) => id.length), 0)
    const out: [string, number][] = [...groups.values()].map((group) => {
      const name = group.id.padEnd(width)
      const count = group.total > 1 ? ` ${group.done}/${group.total}` : ''
      if (group.done === group.total) {
        const saved =
          group.reused === 0
            ? ''
            : group.reused === group.total
              ? ' · saved before'
              : ` · ${group.reused} saved before`
        const time = group.seconds > 0 ? `  ${formatSeconds(group.seconds)}` : ''
        return [`✔ ${name}${count}${time}${saved}`, 32]
      }
      if (group.current === '') return [`  ${name}`, 90]
      return [
        `${final ? '✖' : (SPINNER[frame % SPINNER.length] ?? '·')} ${name}${count}  ${group.current}`,
        final ? 31 : 36,
      ]
    })
    if (!final) {
      const elapsed = (performance.now() - begun) / 1000
      const share = Math.min(1, elapsed / Math.max(1, elapsed + secondsLeft))
      const full = Math.floor(BAR_CELLS * share)
      const bar = '█'.repeat(full) + '░'.repeat(BAR_CELLS - full)
      out.push(['', 0], [`${bar}  about ${formatSeconds(secondsLeft)} left${step ? `  ·  ${step}` : ''}`, 0])
    }
    if (samples.length > 0)
      out.push(['', 0], ...samples.map((one): [string, number] => [sampleLine(one, 1000), 90]))
    if (notes.length > 0) out.push(['', 0], ...notes.map((note): [string, number] => [`note: ${note}`, 33]))
    return out
  }

  const draw = (final = false): void => {
    frame++
    const width = Math.max(20, (stream.columns ?? 80) - 1)
    const height = Math.max(5, (stream.rows ?? 50) - 1)
    const block = lines(final)
      .slice(0, final ? undefined : height)
      .map(([text, code]) => {
        const cut = text.length > width ? `${text.slice(0, width - 1)}…` : text
        return code === 0 ? cut : paint(code, cut)
      })
    // Up to where the block began, erase below, write it anew: in one write, so that it does not flicker.
    stream.write(`${drawn > 0 ? `\u001b[${drawn}A` : ''}\r\u001b[J${block.join('\n')}\n`)
    drawn = block.length
  }

  const showCursor = (): void => void stream.write('\u001b[?25h')
  stream.write('\u001b[?25l') // hides it
  process.once('exit', showCursor)
  const timer = setInterval(draw, FRAME_MS)
  timer.unref()

  const listen = (event: StudyEvent): void => {
    if ('secondsLeft' in event) secondsLeft = event.secondsLeft
    if (event.event === 'plan') {
      for (const { id, stages } of event.groups)
        groups.set(id, { id, total: stages.length, done: 0, reused: 0, seconds: 0, current: '' })
      return
    }
    if (event.event === 'finished') return
    const group = groups.get(event.group)
    if (!group) return
    switch (event.event) {
      case 'stage-started':
        group.current = oneLine(event.title)
        step = ''
        break
      case 'stage-reused':
        group.done++
        group.reused++
        break
      case 'stage-progress': {
        const of = event.total > 0 ? `${event.done} of ${event.total}` : String(event.done)
        step = `${oneLine(event.step)}  ·  ${of} ${event.unit}`
        break
      }
      case 'stage-finished':
        group.done++
        group.seconds += event.seconds
        break
      case 'sample':
        samples = [...samples, event].slice(-SAMPLES)
        break
      case 'warning':
        notes.push(oneLine(event.message))
    }
  }

  return {
    onEvent: listen,
    close() {
      clearInterval(timer)
      draw(true)
      process.off('exit', showCursor)
      showCursor()
      return Promise.resolve()
    },
  }
}
