/** `convert` and `inspect`: files of other programs, and of this one. */
import type { Command } from 'commander'
import type { Terminal } from './program.js'

export interface FileCommandOptions {
  json?: true
}

export function addFileCommands(program: Command, terminal: Terminal, signal: AbortSignal): void {
  program
    .command('convert')
    .summary('write any SAE as a SAELens folder')
    .description(
      'Read an SAE of SAELens, sparsify, OpenAI, Gemma Scope or dictionary_learning and write it as a new SAELens folder ' +
        'in fp32, in bounded memory. The folder appears whole or not at all; what SAELens cannot express is refused.',
    )
    .argument('<in>', 'folder or file of the SAE')
    .argument('<out>', 'folder to make')
    .option('--json', 'machine-readable: progress as JSON lines on stderr, one object on stdout')
    .action(async (path: string, out: string, options: FileCommandOptions) => {
      const { runConvertCommand } = await import('./convert-command.js')
      await runConvertCommand(path, out, options, terminal, signal)
    })

  program
    .command('inspect')
    .summary('say what a file or folder is, and whether it is sound')
    .description(
      'An SAE of any format, a store of activations, codes, statistics, or any file of tensors (safetensors, .npy, .npz, ' +
        '.pt): sizes, types, settings; checksums and values are checked. Fails (exit code 1) if something is unsound.',
    )
    .argument('<path>', 'the file or folder')
    .option('--json', 'as one JSON object')
    .action(async (path: string, options: FileCommandOptions) => {
      const { runInspectCommand } = await import('./inspect-command.js')
      await runInspectCommand(path, options, terminal, signal)
    })
}
