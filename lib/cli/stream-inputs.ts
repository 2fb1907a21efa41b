/** What `encode`, `stats` and `diff` share when they run. */
import { PersonascopeError, toPersonascopeError } from '../core/errors.js'
import { setThreads } from '../core/runtime.js'
import { fingerprint } from '../io/fingerprint.js'
import { Sae } from '../sae/sae.js'
import { UsageError } from './errors.js'
import type { Terminal } from './program.js'
import type { StreamOptions } from './stream-commands.js'

export function applyThreads(options: StreamOptions): void {
  if (options.threads !== undefined) setThreads(options.threads)
}

export interface LoadedSae {
  sae: Sae
  /** Of its files. */
  identity: string
}

/** Where --device is 'auto', stderr is told what it took. */
export async function loadSae(
  options: StreamOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<LoadedSae> {
  if (options.sae === undefined) throw new UsageError('--sae is missing', 'it names the SAE that encodes')
  const sae = await Sae.load(options.sae, {
    precision: options.precision,
    device: options.device,
    signal,
  })
  if (options.device === 'auto')
    terminal.stderr.write(
      options.json
        ? `${JSON.stringify({ event: 'device', device: sae.device })}\n`
        : `device: ${sae.device}\n`,
    )
  return { sae, identity: await fingerprint(options.sae) }
}

/** Runs a command's body; stopped by the user, it says how to go on. */
export async function resumable<Result>(signal: AbortSignal, body: () => Promise<Result>): Promise<Result> {
  try {
    return await body()
  } catch (error) {
    if (!signal.aborted) throw error
    throw new PersonascopeError('ERR_ABORTED', 'stopped; what was done so far is kept', {
      hint: 'to go on, run the same command with --resume',
      cause: toPersonascopeError(error),
    })
  }
}
