import type { ProgressReporter } from './reporter.js'

/** One JSON object a line, the events as they are; steps at most ten times a second. */
export function jsonReporter(stream: NodeJS.WritableStream): ProgressReporter {
  let last = 0
  return {
    onEvent(event) {
      const now = performance.now()
      if (event.event === 'stage-progress') {
        if (now - last < 100 && event.done < event.total) return
        last = now
      }
      stream.write(`${JSON.stringify(event)}\n`)
    },
    close: () => Promise.resolve(),
  }
}
