import { PassThrough } from 'node:stream'
import { runCli } from '../../lib/cli/program.js'

/** The command line in this process, not on a terminal: what it says and its exit code. */
export async function cli(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const said = { stdout: '', stderr: '' }
  const stream = (name: 'stdout' | 'stderr'): PassThrough =>
    new PassThrough().on('data', (chunk: Buffer) => (said[name] += chunk.toString()))
  const terminal = { stdout: stream('stdout'), stderr: stream('stderr'), env: {} }
  const code = await runCli(args, terminal, new AbortController().signal)
  return { code, ...said }
}
