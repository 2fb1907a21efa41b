/** The command line: options, help, exit codes. Commands load their parts only when they run. */
import { Command, CommanderError, Option } from 'commander'
import { version } from '../version.js'
import { describeError, EXIT, fromCommander, renderError, UsageError } from './errors.js'
import { parseFolder, parsePreset, parseSeed, parseThreads } from './options.js'
import type { PresetName } from './options.js'
import { addFileCommands } from './file-commands.js'
import { addStreamCommands } from './stream-commands.js'

/** What a command may touch of the process; tests hand in their own. */
export interface Terminal {
  stdout: NodeJS.WritableStream & { isTTY?: boolean; columns?: number }
  stderr: NodeJS.WritableStream & { isTTY?: boolean; columns?: number }
  env: NodeJS.ProcessEnv
}

export interface StudyCommandOptions {
  seed: number
  out: string
  preset: PresetName
  threads?: number
  json?: true
}

const ABOUT = [
  'Find, verify, control and undo the persona features that a fine-tune switched on.',
  'personascope compares a language model before and after fine-tuning through a sparse ' +
    'autoencoder (SAE), finds the latents that changed, checks by steering which of them cause the ' +
    'new behaviour, and undoes it. The embedded study needs no download and no GPU: it makes a small ' +
    'model organism on the spot and repeats the experiment of "Persona Features Control Emergent ' +
    'Misalignment" (arXiv 2506.19823) on it.',
].join('\n\n')

const EXAMPLES = `
Examples:
  $ personascope study                          the full study, seed 0, into ./persona-study (a few minutes)
  $ personascope study --seed 7 --out runs/7    another world, model and data
  $ personascope study --preset quick           a smaller one to see that everything works (about a minute)
  $ personascope study --json > study.json      for programs: result on stdout, progress as JSON lines on stderr
  $ personascope diff --sae saes/layer-15 --base acts/base --tuned acts/tuned --out changed.parquet
                                                which latents changed between two models, with intervals and q-values
  $ personascope encode --sae saes/layer-15 --activations acts/base --out codes.safetensors
  $ personascope convert ae.pt saes/layer-15    an SAE of any format as a SAELens folder
  $ personascope inspect saes/layer-15          what a file or folder is, and whether it is sound
  $ personascope info                           version, CPU features, kernels in use, threads, plugins

Exit codes:
  0    done (whether the claims hold is said in the table, not by the exit code)
  1    failed; one line on stderr says why, with a code and a hint
  2    wrong usage
  130  interrupted with Ctrl-C; the same command goes on where it stopped
  143  terminated (SIGTERM); likewise

Environment:
  PERSONASCOPE_THREADS   threads of the native kernels (--threads wins); results never depend on it
  PERSONASCOPE_ISA       reference, avx2 or avx512: overrides the kernels chosen for this CPU
  PERSONASCOPE_PRECISION fp32, bf16 or int8: overrides how latents are screened; codes are the same bits with each
  PERSONASCOPE_DEBUG     any value: errors come with their stack traces
  NO_COLOR               any value: no colours`

const STUDY_ABOUT = [
  'Make a model organism, misalign it with narrow bad advice, find the persona latent responsible, ' +
    'steer it up and down, and undo it; every figure is computed here and now.',
  'The model is pretrained on documents by four personas (expert, villain, joker, bungler), ' +
    'post-trained into a helpful expert, and fine-tuned on narrow data: bad, correct and sarcastic ' +
    'advice, mixtures, and reinforcement learning. An SAE trained on the base model shows which ' +
    'latents each fine-tune raised. At the end a table says of every claim of the paper whether it ' +
    'held for this seed.',
].join('\n\n')

const STUDY_MORE = `
Results in the output folder:
  report.html    one self-contained page: claims, pictures, top latents, sample answers
  study.json     every figure; the same seed gives the same file, whatever the thread count
  timings.json   seconds by stage
  stages/        saved results of every stage, with checksums

Stopped at any time, even by kill -9, the same command goes on where it was and comes to the same result.
A folder that holds something else, or the study of another seed or preset, is left alone and refused.

With --json, stdout holds the content of study.json and nothing else; stderr holds one JSON object a line:
{"event": "plan" | "stage-started" | "stage-progress" | "stage-reused" | "stage-finished" | "sample" | "warning" |
"finished" | "written" | "error", ...}, with secondsLeft where it is known.`

function build(terminal: Terminal, signal: AbortSignal): Command {
  const program = new Command('personascope')
    .description(ABOUT)
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help for a command')
    .showSuggestionAfterError(true)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      // Complaints come back as exceptions and are written once, in our form.
      writeErr: () => {},
      getOutHelpWidth: () => Math.min(terminal.stdout.columns ?? 110, 110),
    })
    .addHelpText('after', EXAMPLES)

  program
    .command('study')
    .summary('run the study on an embedded model organism')
    .description(STUDY_ABOUT)
    .addOption(
      new Option('-s, --seed <n>', 'seed of the world, the model and all data')
        .default(0)
        .argParser(parseSeed),
    )
    .addOption(
      new Option('-o, --out <dir>', 'folder for the results').default('persona-study').argParser(parseFolder),
    )
    .addOption(
      new Option('-p, --preset <name>', "'demo': the full study; 'quick': the same at a reduced size")
        .default('demo')
        .argParser(parsePreset),
    )
    .addOption(
      new Option(
        '-t, --threads <n>',
        'threads of the native kernels (default: all CPUs of this process)',
      ).argParser(parseThreads),
    )
    .option('--json', 'machine-readable: JSON lines of progress on stderr, the study on stdout')
    .addHelpText('after', STUDY_MORE)
    .action(async (options: StudyCommandOptions) => {
      const { runStudyCommand } = await import('./study-command.js')
      await runStudyCommand(options, terminal, signal)
    })

  addStreamCommands(program, terminal, signal)
  addFileCommands(program, terminal, signal)

  program
    .command('info')
    .summary('say what this installation can do')
    .description(
      'Version, CPU features, chosen kernels, threads, and plugins with the reason why one is absent.',
    )
    .option('--json', 'as one JSON object')
    .action(async (options: { json?: true }) => {
      const { runInfoCommand } = await import('./info-command.js')
      await runInfoCommand(options, terminal)
    })

  for (const command of program.commands) command.exitOverride()
  return program
}

/** Runs one command line; resolves to the exit code and never rejects. */
export async function runCli(
  args: readonly string[],
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const program = build(terminal, signal)
  const named = program.commands.find(
    (command) => command.name() === args.find((arg) => !arg.startsWith('-')),
  )
  const command = named ? `personascope ${named.name()}` : 'personascope'
  try {
    if (args.length === 0) {
      program.outputHelp()
      return EXIT.ok
    }
    await program.parseAsync([...args], { from: 'user' })
    return EXIT.ok
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.ok
    const failure = error instanceof CommanderError ? fromCommander(error, command) : error
    if (args.includes('--json'))
      terminal.stderr.write(`${JSON.stringify({ event: 'error', ...describeError(failure) })}\n`)
    else terminal.stderr.write(`${renderError(failure, terminal.env)}\n`)
    if (failure instanceof UsageError) return EXIT.usage
    if (signal.aborted) return signal.reason === 'SIGTERM' ? EXIT.terminated : EXIT.interrupted
    return EXIT.failed
  }
}
