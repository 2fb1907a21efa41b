/**
 * Runs a bench: npm run bench -- <name> [--record] [options of the bench]. Each prints JSON lines. --record also keeps
 * them, with the machine's description, in bench/results/<name>.json.
 */
import { spawn } from 'node:child_process'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { cpus, loadavg, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runtimeInfo } from '../dist/index.js'

const here = dirname(fileURLToPath(import.meta.url))
const ending = '.bench.mjs'
const names = (await readdir(here))
  .filter((file) => file.endsWith(ending))
  .map((file) => file.slice(0, -ending.length))
const [name, ...rest] = process.argv.slice(2)
if (!names.includes(name)) {
  console.error(`bench: found '${name ?? ''}', expected one of ${names.join(', ')}`)
  console.error('usage: npm run bench -- <name> [--record] [options]')
  process.exit(2)
}
const record = rest.includes('--record')
const options = rest.filter((option) => option !== '--record')
const loadBefore = loadavg()[0]
const child = spawn(process.execPath, [join(here, name + ending), ...options], {
  stdio: ['ignore', 'pipe', 'inherit'],
})
let output = ''
child.stdout.on('data', (chunk) => {
  output += chunk
  process.stdout.write(chunk)
})
const status = await new Promise((resolve) => child.on('close', resolve))
if (status !== 0) process.exit(status ?? 1)
if (record) {
  const { cpu, cpuFeatures, isa } = runtimeInfo()
  const results = output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const machine = {
    cpu,
    cpuFeatures,
    isa,
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    loadBefore: Number(loadBefore.toFixed(2)),
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
  }
  await mkdir(join(here, 'results'), { recursive: true })
  await writeFile(
    join(here, 'results', `${name}.json`),
    `${JSON.stringify({ command: ['npm run bench --', name, ...options].join(' '), machine, results }, null, 2)}\n`,
  )
}
