/** `encode`, `stats` and `diff`: from stores of activations and an SAE to codes, statistics and a ranked table. */
import { Option, type Command } from 'commander'
import type { Device } from '../core/device-tensor.js'
import { UsageError } from './errors.js'
import { parseThreads } from './options.js'
import type { Terminal } from './program.js'

export interface StreamOptions {
  sae?: string
  out: string
  precision: 'auto' | 'fp32' | 'bf16' | 'int8'
  device: Device
  tokens: 'all' | 'assistant' | 'prompt' | 'last-prompt'
  threads?: number
  resume?: true
  json?: true
}

export interface EncodeCommandOptions extends StreamOptions {
  sae: string
  activations: string
}

export interface StatsCommandOptions extends StreamOptions {
  activations?: string
  merge?: string[]
  examples: number
}

export interface DiffCommandOptions extends StreamOptions {
  base?: string
  tuned?: string[]
  top: number
  bootstrap: number
  test: 'paired' | 'welch' | 'permutation'
  seed: number
  anyPrompts?: true
}

const TOKENS = ['all', 'assistant', 'prompt', 'last-prompt'] as const

const ACTIVATIONS = `
Activations are a store that personascope wrote, a folder of safetensors files (in the order of their names, 2 before 10),
one such file, or a .npy: a tensor 'activations' [tokens, dModel] of F32, F16 or BF16, read in bounded memory. Beside it
may stand 'tokens', 'offsets' (where sequences begin), 'prompts' and 'roles'; without 'offsets' every row is a prompt of
its own.`

const CROSSCODER = `
A crosscoder compares the models that it reads by itself: without --base and --tuned, its latents are ranked by the
relative norm of their decoder vectors (1: only the last model has them, near 0: only the others), as latent, rank and
relative_decoder_norm. With --base and --tuned, whose rows hold all models' activations side by side, the table gets that
column too.
`

const RESUME = `
Stopped at any time, even by kill -9, the same command with --resume goes on where it was and comes to the same bytes.
With --json, stderr holds one JSON object a line (progress with perSecond and secondsLeft), stdout one object.`

function whole(option: string, low: number, high: number) {
  return (text: string): number => {
    const value = Number(text)
    if (!/^\d+$/.test(text) || value < low || value > high)
      throw new UsageError(`${option} is '${text}', expected a whole number from ${low} to ${high}`)
    return value
  }
}

function oneOf<Value extends string>(option: string, values: readonly Value[]) {
  return (text: string): Value => {
    const found = values.find((value) => value === text)
    if (found === undefined)
      throw new UsageError(`${option} is '${text}', expected one of: ${values.join(', ')}`)
    return found
  }
}

const collect = (text: string, before: string[] = []): string[] => [...before, text]

/** Options that the three share. */
function shared(command: Command): Command {
  return command
    .addOption(
      new Option('--tokens <which>', "tokens that count: 'all', 'assistant', 'prompt' or 'last-prompt'")
        .default('all')
        .argParser(oneOf('--tokens', TOKENS)),
    )
    .addOption(
      new Option(
        '--precision <name>',
        "of screening: 'auto', 'fp32', 'bf16' or 'int8'; never changes results",
      )
        .default('auto')
        .argParser(oneOf('--precision', ['auto', 'fp32', 'bf16', 'int8'] as const)),
    )
    .option(
      '--device <name>',
      "where codes are computed: 'cpu', 'cuda', 'cuda:N' or 'auto', the first GPU, else the CPU; never changes results",
      'cpu',
    )
    .addOption(
      new Option(
        '-t, --threads <n>',
        'threads of the native kernels (default: all CPUs of this process)',
      ).argParser(parseThreads),
    )
    .option('--resume', 'go on where a stopped run was')
    .option('--json', 'machine-readable: progress as JSON lines on stderr, one object on stdout')
}

export function addStreamCommands(program: Command, terminal: Terminal, signal: AbortSignal): void {
  shared(
    program
      .command('encode')
      .summary('encode activations to sparse codes')
      .description(
        "Encode a store of activations with an SAE. The output holds 'indices' U32 and 'values' F32 [tokens, k]; where the " +
          "count varies they are flat, and 'offsets' U64 [tokens + 1] divides them. With --tokens, 'rows' U64 [tokens] are " +
          'their numbers in the store.',
      )
      .requiredOption('--sae <path>', 'the SAE, in any format that personascope reads')
      .requiredOption('--activations <path>', 'the activations')
      .requiredOption('-o, --out <file>', 'safetensors file of the codes'),
  )
    .addHelpText('after', ACTIVATIONS + RESUME)
    .action(async (options: EncodeCommandOptions) => {
      const { runEncodeCommand } = await import('./encode-command.js')
      await runEncodeCommand(options, terminal, signal)
    })

  shared(
    program
      .command('stats')
      .summary('statistics of every latent over activations')
      .description(
        'Sum, sum of squares, active count, maximum and sums per prompt of every latent, exact: statistics of parts of the ' +
          'data, made anywhere and merged in any order, are the same bits as one pass.',
      )
      .option('--sae <path>', 'the SAE, in any format that personascope reads')
      .option('--activations <path>', 'the activations')
      .option('--merge <file>', 'instead: merge files of statistics; give it once for each', collect)
      .requiredOption('-o, --out <file>', 'safetensors file of the statistics')
      .addOption(
        new Option(
          '--examples <m>',
          'rows of largest value kept a latent, by their numbers within these activations: merged parts keep those',
        )
          .default(0)
          .argParser(whole('--examples', 0, 4096)),
      ),
  )
    .addHelpText('after', ACTIVATIONS + RESUME)
    .action(async (options: StatsCommandOptions) => {
      const { runStatsCommand } = await import('./stats-command.js')
      await runStatsCommand(options, terminal, signal)
    })

  shared(
    program
      .command('diff')
      .summary('rank the latents that changed between two models')
      .description(
        'Compare the activations of a model before and one or several after fine-tuning, on the same prompts, through one ' +
          'SAE. The table holds latent, rank, mean_base, mean_tuned, delta, effect_size, active_base, active_tuned, ci_low, ' +
          'ci_high, p_value and q_value (Benjamini-Hochberg over all alive latents). Several --tuned are averaged.',
      )
      .option('--sae <path>', 'the SAE; not needed where all inputs are statistics')
      .option('--base <path>', "activations of the model before, or statistics of 'personascope stats'")
      .option('--tuned <path>', 'the same of a model after; may be given several times', collect)
      .requiredOption('-o, --out <file>', 'Parquet file of the table')
      .addOption(
        new Option(
          '--top <n>',
          'rows: so many latents of largest increase, as many of largest decrease; 0 for all latents',
        )
          .default(1000)
          .argParser(whole('--top', 0, 0xffff_ffff)),
      )
      .addOption(
        new Option('--bootstrap <n>', 'resamples of the prompts for the intervals')
          .default(1000)
          .argParser(whole('--bootstrap', 0, 100_000)),
      )
      .addOption(
        new Option('--test <name>', "of the p-values: 'paired', 'welch' or 'permutation'")
          .default('paired')
          .argParser(oneOf('--test', ['paired', 'welch', 'permutation'] as const)),
      )
      .addOption(
        new Option('-s, --seed <n>', 'of the bootstrap')
          .default(0)
          .argParser(whole('--seed', 0, 0xffff_ffff)),
      )
      .option('--any-prompts', 'let the prompts of the models differ'),
  )
    .addHelpText('after', CROSSCODER + ACTIVATIONS + RESUME)
    .action(async (options: DiffCommandOptions) => {
      const { runDiffCommand } = await import('./diff-command.js')
      await runDiffCommand(options, terminal, signal)
    })
}
