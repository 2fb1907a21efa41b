/** `--device` and `info`: with a GPU, real or emulated, and without. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { runtimeInfo } from '../../lib/core/runtime.js'
import { writeSafetensors } from '../../lib/io/safetensors.js'
import { Sae } from '../../lib/sae/sae.js'
import { temporaryFolder } from '../io/temporary-folder.js'
import { hasGpu, wave, waveWeights } from '../support/devices.js'
import { cli } from './run.js'

const dModel = 8
const latents = 64
const rows = 50

let folder: string
const at = (name: string): string => join(folder, name)

beforeEach(async () => {
  folder = await temporaryFolder()
  const sae = Sae.fromWeights({ ...waveWeights(dModel, latents), k: 5 })
  await sae.save(at('sae'))
  for (const [name, step] of [
    ['base', 0.77],
    ['tuned', 0.31],
  ] as const)
    await writeSafetensors(at(`${name}.safetensors`), [
      { name: 'activations', dtype: 'F32', shape: [rows, dModel], data: wave(rows * dModel, step) },
    ])
})

/** The three commands over the same data, each with the file it writes. */
const commands: [string, (out: string) => string[]][] = [
  ['encode', () => ['--activations', at('base.safetensors')]],
  ['stats', () => ['--activations', at('base.safetensors')]],
  ['diff', () => ['--base', at('base.safetensors'), '--tuned', at('tuned.safetensors')]],
]

describe.each(commands)('%s', (command, inputs) => {
  const run = (out: string, ...more: string[]) =>
    cli(command, '--sae', at('sae'), ...inputs(out), '-o', at(out), ...more)

  it('writes the same bytes on every device, and says what auto took', async () => {
    expect(await run('cpu')).toMatchObject({ code: 0 })
    const auto = await run('auto', '--device', 'auto')
    expect(auto.code).toBe(0)
    expect(auto.stderr).toContain(`device: ${hasGpu ? 'cuda:0' : 'cpu'}\n`)
    expect(await readFile(at('auto'))).toEqual(await readFile(at('cpu')))
    const json = await run('json', '--device', 'auto', '--json')
    expect(json.stderr).toContain(`{"event":"device","device":"${hasGpu ? 'cuda:0' : 'cpu'}"}\n`)
  })

  it.runIf(hasGpu)('runs on a GPU', async () => {
    expect(await run('cpu')).toMatchObject({ code: 0 })
    expect(await run('gpu', '--device', 'cuda', '--precision', 'bf16')).toMatchObject({ code: 0 })
    expect(await readFile(at('gpu'))).toEqual(await readFile(at('cpu')))
    const refused = await run('fp32', '--device', 'cuda', '--precision', 'fp32')
    expect(refused).toMatchObject({ code: 1 })
    expect(refused.stderr).toMatch(/precision 'fp32' is the CPU's/)
  })

  it('without such a device is one line that says why', async () => {
    const { code, stderr } = await run('out', '--device', hasGpu ? 'cuda:4096' : 'cuda')
    expect(code).toBe(1)
    expect(stderr).toMatch(/^error \[ERR_NOT_FOUND\] .+\n$/)
    expect(stderr).toContain(runtimeInfo().plugins.cuda.reason)
    expect((await run('out', '--device', 'tpu')).stderr).toMatch(
      /device 'tpu', expected 'auto', 'cpu', 'cuda' or 'cuda:'/,
    )
  })
})

describe('info', () => {
  it('lists the devices with name, memory and compute capability, or says why there is none', async () => {
    const info = JSON.parse((await cli('info', '--json')).stdout) as ReturnType<typeof runtimeInfo>
    const { stdout } = await cli('info')
    expect(info.devices.length > 0).toBe(hasGpu)
    for (const [i, device] of info.devices.entries()) {
      expect(device.computeCapability).toMatch(/^\d+\.\d$/)
      expect(device.totalBytes).toBeGreaterThanOrEqual(device.freeBytes)
      expect(stdout).toMatch(
        new RegExp(`device cuda:${i} +.+, compute capability ${device.computeCapability}, .* GiB free`),
      )
    }
    expect(stdout.includes('devices')).toBe(!hasGpu)
    expect(stdout).toContain(info.plugins.cuda.reason)
  })
})
