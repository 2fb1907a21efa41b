import { relative, resolve } from 'node:path'
import { PersonascopeError, toPersonascopeError } from '../core/errors.js'
import type { PersonaStudyOptions } from '../study/persona-study.js'
import { claimsTable } from './claims-table.js'
import type { StudyCommandOptions, Terminal } from './program.js'
import { jsonReporter } from './progress/json.js'
import { liveReporter } from './progress/live.js'
import { plainReporter } from './progress/plain.js'
import type { ProgressReporter } from './progress/reporter.js'

function colours(terminal: Terminal): boolean {
  return Boolean(terminal.stdout.isTTY) && !terminal.env['NO_COLOR']
}

function reporterFor(options: StudyCommandOptions, terminal: Terminal): ProgressReporter {
  if (options.json) return jsonReporter(terminal.stderr)
  const live = terminal.stdout === process.stdout && terminal.stdout.isTTY && terminal.env['TERM'] !== 'dumb'
  if (!live) return plainReporter(terminal.stdout)
  return liveReporter(terminal.stdout, colours(terminal))
}

/** The command line that goes on with this study. */
function sameCommand(options: StudyCommandOptions): string {
  const out = /^[\w./@%+=:,-]+$/.test(options.out) ? options.out : `'${options.out.replaceAll("'", `'\\''`)}'`
  return `personascope study --seed ${options.seed} --preset ${options.preset} --out ${out}`
}

/** A path as the user would type it. */
function shown(path: string): string {
  const near = relative(process.cwd(), path)
  return near.startsWith('..') ? path : `./${near}`
}

export async function runStudyCommand(
  options: StudyCommandOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const { runPersonaStudy } = await import('../study/persona-study.js')
  const { setThreads } = await import('../core/runtime.js')
  if (options.threads !== undefined) setThreads(options.threads)
  const reporter = reporterFor(options, terminal)
  const request: PersonaStudyOptions = {
    seed: options.seed,
    preset: options.preset,
    folder: resolve(options.out),
    signal,
    onEvent: (event) => reporter.onEvent(event),
  }
  let finished: Awaited<ReturnType<typeof runPersonaStudy>>
  try {
    finished = await runPersonaStudy(request)
    await reporter.close()
  } catch (error) {
    await reporter.close()
    if (!signal.aborted) throw error
    throw new PersonascopeError('ERR_ABORTED', 'stopped; finished stages are saved', {
      hint: `to go on: ${sameCommand(options)}`,
      cause: toPersonascopeError(error),
    })
  }
  const { study, files } = finished
  if (options.json) {
    terminal.stderr.write(`${JSON.stringify({ event: 'written', ...files })}\n`)
    terminal.stdout.write(`${JSON.stringify(study)}\n`)
    return
  }
  terminal.stdout.write(
    `\n${claimsTable(study.claims, { colours: colours(terminal), width: terminal.stdout.columns ?? 120 })}\n`,
  )
  terminal.stdout.write(`\nreport   ${shown(files.report)}\nfigures  ${shown(files.study)}\n`)
}
