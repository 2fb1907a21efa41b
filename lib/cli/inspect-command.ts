import { PersonascopeError } from '../core/errors.js'
import { inspectPath, type Inspected } from '../inspect.js'
import { oneLine } from './errors.js'
import type { FileCommandOptions } from './file-commands.js'
import type { Terminal } from './program.js'
import { streamProgress } from './progress/stream.js'

export async function runInspectCommand(
  path: string,
  options: FileCommandOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const progress = streamProgress(terminal, options.json === true)
  const found = await inspectPath(path, { signal, onProgress: progress.step('inspect') }).finally(() =>
    progress.close(),
  )
  terminal.stdout.write(options.json ? `${JSON.stringify(found, null, 2)}\n` : table(found))
  if (found.problems.length > 0)
    throw new PersonascopeError('ERR_FORMAT', `${path}: not sound: ${found.problems.join('; ')}`)
}

function table(found: Inspected): string {
  const { problems, ...fields } = found
  const rows = Object.entries(fields)
    .filter(([, value]) => value !== null)
    .map(([name, value]): [string, string] => [
      name,
      typeof value === 'object' ? JSON.stringify(value) : String(value),
    ])
  rows.push(['sound', problems.length === 0 ? 'yes' : 'no'])
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${oneLine(value)}\n`).join('')
}
