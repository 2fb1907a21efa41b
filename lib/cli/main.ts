#!/usr/bin/env node
import { EXIT, renderError } from './errors.js'
import { runCli } from './program.js'

const controller = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    // Twice: leave at once. Nothing is half-written at any time, so this is safe.
    if (controller.signal.aborted) process.exit(signal === 'SIGTERM' ? EXIT.terminated : EXIT.interrupted)
    controller.abort(signal)
  })
}
// A reader that went away ('personascope … | head') is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok)
  throw error
})
for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
  process.on(event, (error: unknown) => {
    process.stderr.write(`${renderError(error, process.env)}\n`)
    process.exit(EXIT.failed)
  })
}

process.exitCode = await runCli(process.argv.slice(2), process, controller.signal)
