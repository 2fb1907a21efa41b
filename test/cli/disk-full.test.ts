/**
 * Commands on a file system that is full: a small tmpfs, mounted in a namespace of its own. Where that is not allowed the
 * tests are skipped, and say why.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ActivationStoreWriter } from '../../lib/activations/writer.js'
import { Random } from '../../lib/core/random.js'
import { Sae } from '../../lib/sae/sae.js'

const [dModel, latents, rows] = [32, 512, 4096]

/** Runs a shell script where $FULL is an empty tmpfs of so many KiB, which goes when the script ends. */
function onSmallDisk(folder: string, kilobytes: number, script: string): ReturnType<typeof spawnSync> {
  const mount = `export FULL=${join(folder, 'full')}; mkdir -p $FULL; mount -t tmpfs -o size=${kilobytes}k tmpfs $FULL || exit 77`
  return spawnSync('unshare', ['-rm', 'bash', '-c', `${mount}\n${script}`], { encoding: 'utf8' })
}

const folder = mkdtempSync(join(tmpdir(), 'personascope-test-'))
afterAll(() => rmSync(folder, { recursive: true }))
const probe = onSmallDisk(folder, 64, 'df $FULL')
const skipped =
  probe.status === 0 ? '' : ` (skipped: no tmpfs in a namespace: ${String(probe.stderr).trim()})`

const at = (name: string): string => join(folder, name)
const main = join(import.meta.dirname, '../../dist/cli/main.js')

function normal(count: number, seed: number): Float32Array {
  const random = new Random(seed)
  return Float32Array.from({ length: count }, () => random.gaussian())
}

beforeAll(async () => {
  if (!existsSync(main)) throw new Error('npm run build makes the command line')
  const directions = normal(latents * dModel, 1)
  const sae = Sae.fromWeights({
    dModel,
    latents,
    k: 16,
    wEnc: directions,
    wDec: directions,
    bEnc: new Float32Array(latents),
    bDec: new Float32Array(dModel),
  })
  await sae.save(at('sae'))
  for (const [seed, name] of ['base', 'tuned'].entries()) {
    const writer = await ActivationStoreWriter.create(at(name), {
      dModel,
      hook: { point: 'resid_post', layer: 1 },
    })
    await writer.append({
      values: normal(rows * dModel, seed + 2),
      rows,
      dModel,
      sequence: Uint32Array.from({ length: rows }, (_, row) => row >> 6),
      position: Uint32Array.from({ length: rows }, (_, row) => row & 63),
      tokens: Int32Array.from({ length: rows }, (_, row) => row),
    })
    await writer.close()
  }
})

interface Outcome {
  code: number
  error: string
  /** Of the whole disk, after the command. */
  files: string[]
}

/**
 * Runs a command whose output goes to $FULL/out. The disk holds `previous` under the name of the output, and as much else
 * as leaves `free` KiB.
 */
function run(command: string, free: number, previous: string): Outcome & { previous: string } {
  const inputs = `--sae ${at('sae')}`
  const said = onSmallDisk(
    folder,
    512,
    `printf %s '${previous}' > $FULL/out
     dd if=/dev/zero of=$FULL/ballast bs=1k count=$((512 - ${free} - 8)) status=none
     ${process.execPath} ${main} ${command.replace('SAE', inputs)} 2> ${at('stderr')} > ${at('stdout')}
     echo $?
     cat $FULL/out; echo
     cd $FULL; find . -mindepth 1 | sort`,
  )
  const [code, kept, ...files] = String(said.stdout).trim().split('\n')
  return {
    code: Number(code),
    error: execFileSync('cat', [at('stderr')], { encoding: 'utf8' }),
    previous: kept ?? '',
    files: files.map((name) => name.replace('./', '')),
  }
}

const commands: [string, string][] = [
  ['encode', `encode SAE --activations ${at('base')} -o $FULL/out`],
  ['stats', `stats SAE --activations ${at('base')} -o $FULL/out`],
  ['diff', `diff SAE --base ${at('base')} --tuned ${at('tuned')} -o $FULL/out --top 0`],
]

describe.skipIf(skipped !== '')(`a full disk${skipped}`, () => {
  // With little room the first write fails, with more one in the middle.
  for (const free of [0, 8, 40])
    it.each(commands)(
      `${free} KiB left: %s says so once, and the output that was there stays`,
      (_, command) => {
        const { code, error, previous, files } = run(command, free, 'what was there before')
        const lines = error.split('\n').filter((line) => line.startsWith('error'))
        expect(lines).toHaveLength(1)
        expect(lines[0]).toMatch(/^error \[ERR_IO\] .*ENOSPC/)
        expect(lines[0]).toContain(join(folder, 'full', 'out'))
        expect(code).toBe(1)
        expect(previous).toBe('what was there before')
        // What is whole may stay for --resume; nothing half-written does.
        expect(files.filter((one) => one.includes('.partial'))).toEqual([])
        expect(files.filter((one) => !/^(ballast|out)$|^out\.(parts|work|checkpoint)/.test(one))).toEqual([])
      },
      60_000,
    )

  it('convert leaves no folder', () => {
    for (const free of [0, 40]) {
      const { code, error, previous, files } = run(`convert ${at('sae')} $FULL/converted`, free, 'another')
      expect(error).toMatch(/^error \[ERR_IO\] .*ENOSPC/m)
      expect(code).toBe(1)
      expect(previous).toBe('another')
      expect(files).toEqual(['ballast', 'out'])
    }
  }, 60_000)

  it('a run that the full disk stopped goes on with --resume once there is room', () => {
    const command = `diff --sae ${at('sae')} --base ${at('base')} --tuned ${at('tuned')} --top 0`
    // Room for the statistics of one model (332 KiB), not for the table beside them (35 KiB).
    const said = onSmallDisk(
      folder,
      2048,
      `dd if=/dev/zero of=$FULL/ballast bs=1k count=1700 status=none
       ${process.execPath} ${main} ${command} -o $FULL/out 2> /dev/null; echo $?
       ls $FULL/out.work
       rm $FULL/ballast
       ${process.execPath} ${main} ${command} -o $FULL/out --resume 2> ${at('stderr')} | tail -1; echo
       ${process.execPath} ${main} ${command} -o ${at('whole.parquet')} > /dev/null 2>&1
       cmp $FULL/out ${at('whole.parquet')} && echo same; ls -A $FULL`,
    )
    expect(`${said.stderr}${said.stdout}`).toMatch(
      /^1\n0\.safetensors\n.*512 of 512 latents[\s\S]*\nsame\nout\n$/,
    )
  }, 60_000)
})

it('a stream that is full', () => {
  // Standard output is the user's business: what was asked for is on the disk by then.
  const said = spawnSync(
    'bash',
    [
      '-c',
      `${process.execPath} ${main} stats --sae ${at('sae')} --activations ${at('base')} -o ${at('s.safetensors')} > /dev/full`,
    ],
    { encoding: 'utf8' },
  )
  expect(said.stderr).toMatch(/ENOSPC/)
  expect(said.status).not.toBe(0)
  expect(existsSync(at('s.safetensors'))).toBe(true)
}, 60_000)
