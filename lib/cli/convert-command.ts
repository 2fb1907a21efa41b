import { convertSae } from '../sae/convert.js'
import { oneLine } from './errors.js'
import type { FileCommandOptions } from './file-commands.js'
import type { Terminal } from './program.js'
import { streamProgress } from './progress/stream.js'

export async function runConvertCommand(
  path: string,
  out: string,
  options: FileCommandOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const progress = streamProgress(terminal, options.json === true)
  const converted = await convertSae(path, out, { signal, onProgress: progress.step('convert') }).finally(
    () => progress.close(),
  )
  if (options.json) terminal.stdout.write(`${JSON.stringify(converted)}\n`)
  else
    terminal.stdout.write(
      `${oneLine(out)}: ${converted.latents} latents of ${converted.dModel} dimensions, ${converted.architecture}, from ${converted.from}\n`,
    )
}
