import type { Terminal } from './program.js'

export async function runInfoCommand(options: { json?: true }, terminal: Terminal): Promise<void> {
  const { runtimeInfo } = await import('../core/runtime.js')
  const info = runtimeInfo()
  if (options.json) {
    terminal.stdout.write(`${JSON.stringify(info, null, 2)}\n`)
    return
  }
  const rows: [string, string][] = [
    ['personascope', info.version],
    ['node', `${info.node} on ${info.platform}`],
    ['CPU', info.cpu],
    ['CPU features', info.cpuFeatures],
    ['kernels', `${info.isa} (PERSONASCOPE_ISA overrides)`],
    ['threads', `${info.threads} (--threads or PERSONASCOPE_THREADS overrides)`],
    ...Object.entries(info.plugins).map(([name, plugin]): [string, string] => [
      `plugin ${name}`,
      plugin.usable ? plugin.reason : `${plugin.loaded ? 'loaded' : 'absent'}: ${plugin.reason}`,
    ]),
  ]
  const width = Math.max(...rows.map(([name]) => name.length))
  for (const [name, value] of rows) terminal.stdout.write(`${name.padEnd(width)}  ${value}\n`)
}
