import { version } from '../version.js'
import type { Terminal } from './program.js'

export async function runInfoCommand(options: { json?: true }, terminal: Terminal): Promise<void> {
  const { native } = await import('../native.js')
  const runtime = native.runtimeInfo()
  const info = {
    version,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    ...runtime,
    plugins: {
      cuda: { loaded: false, reason: 'not built: this version has no GPU kernels yet' },
      mpi: { loaded: false, reason: 'not built: this version runs on one machine' },
    },
  }
  if (options.json) {
    terminal.stdout.write(`${JSON.stringify(info, null, 2)}\n`)
    return
  }
  const rows: [string, string][] = [
    ['personascope', version],
    ['node', `${process.version} on ${info.platform}`],
    ['CPU', runtime.cpu],
    ['CPU features', runtime.cpuFeatures],
    ['kernels', `${runtime.isa} (PERSONASCOPE_ISA overrides)`],
    ['threads', `${runtime.threads} (--threads or PERSONASCOPE_THREADS overrides)`],
    ...Object.entries(info.plugins).map(([name, plugin]): [string, string] => [
      `plugin ${name}`,
      plugin.loaded ? 'loaded' : `absent: ${plugin.reason}`,
    ]),
  ]
  const width = Math.max(...rows.map(([name]) => name.length))
  for (const [name, value] of rows) terminal.stdout.write(`${name.padEnd(width)}  ${value}\n`)
}
