import type { Terminal } from './program.js'

const gibibytes = (bytes: number): string => (bytes / 2 ** 30).toFixed(1)

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
    ...info.devices.map((device, i): [string, string] => [
      `device cuda:${i}`,
      `${device.name}, compute capability ${device.computeCapability}, ${device.kernels} kernels, ` +
        `${gibibytes(device.freeBytes)} of ${gibibytes(device.totalBytes)} GiB free`,
    ]),
    ...(info.devices.length > 0 ? [] : [['devices', 'the CPU only'] as [string, string]]),
  ]
  const width = Math.max(...rows.map(([name]) => name.length))
  for (const [name, value] of rows) terminal.stdout.write(`${name.padEnd(width)}  ${value}\n`)
}
