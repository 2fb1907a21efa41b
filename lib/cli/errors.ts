/** How failures reach the user: one line, a code, a hint, an exit code; never a stack trace unless asked for. */
import { CommanderError } from 'commander'
import { PersonascopeError, toPersonascopeError } from '../core/errors.js'

export const EXIT = { ok: 0, failed: 1, usage: 2, interrupted: 130, terminated: 143 } as const

/** Wrong usage, found before anything ran. */
export class UsageError extends PersonascopeError {
  constructor(message: string, hint?: string) {
    super('ERR_INVALID_ARGUMENT', message, hint === undefined ? {} : { hint })
  }
}

/** Commander's own complaints ("error: unknown option '--sed'\n(Did you mean --seed?)") as ours. */
export function fromCommander(error: CommanderError, command: string): UsageError {
  const [first = '', ...rest] = error.message.split('\n')
  const suggestion = rest
    .join(' ')
    .replace(/^\((.*)\)$/, '$1')
    .trim()
  const help = `see ${command} --help`
  return new UsageError(
    first.replace(/^error: /, '').replace(/\.$/, ''),
    suggestion ? `${suggestion.charAt(0).toLowerCase()}${suggestion.slice(1)} ${help}` : help,
  )
}

// Control characters would let a file name or a model's words rewrite the terminal.
// oxlint-disable-next-line no-control-regex
const controls = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g

/** Text of unknown origin made fit for one line of a terminal. */
export function oneLine(text: string): string {
  return text.replace(controls, ' ').trim()
}

export function describeError(error: unknown): { code: string; message: string; hint?: string } {
  const { code, message, hint } = toPersonascopeError(error)
  return { code, message: oneLine(message), ...(hint === undefined ? {} : { hint: oneLine(hint) }) }
}

/** The one line. */
export function errorLine(error: unknown): string {
  const { code, message, hint } = describeError(error)
  return `error [${code}] ${message}${hint ? ` (hint: ${hint})` : ''}`
}

/** The line, or with PERSONASCOPE_DEBUG the line and every stack. */
export function renderError(error: unknown, environment: NodeJS.ProcessEnv): string {
  const line = errorLine(error)
  if (!environment['PERSONASCOPE_DEBUG']) return line
  const stacks: string[] = []
  for (let at: unknown = error; at instanceof Error; at = at.cause) stacks.push(at.stack ?? at.message)
  return [line, ...stacks].join('\n')
}
