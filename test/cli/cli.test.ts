import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { errorLine, oneLine, renderError } from '../../lib/cli/errors.js'
import { claimsTable } from '../../lib/cli/claims-table.js'
import { jsonReporter } from '../../lib/cli/progress/json.js'
import { liveReporter } from '../../lib/cli/progress/live.js'
import { plainReporter } from '../../lib/cli/progress/plain.js'
import { PersonascopeError } from '../../lib/core/errors.js'
import type { StudyEvent } from '../../lib/study/stage.js'
import { version } from '../../lib/version.js'
import packageJson from '../../package.json' with { type: 'json' }
import { study } from '../study/figures.js'
import { cli } from './run.js'

function stream(): { stream: PassThrough; text(): string } {
  const parts: string[] = []
  const out = new PassThrough()
  out.on('data', (chunk: Buffer) => parts.push(chunk.toString()))
  return { stream: out, text: () => parts.join('') }
}

describe('command line', () => {
  it('prints its version, which is the package’s', async () => {
    expect(await cli('--version')).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
    expect(version).toBe(packageJson.version)
  })

  it.each([[[]], [['--help']], [['help']]])('%j prints help with examples and exit codes', async (args) => {
    const { code, stdout, stderr } = await cli(...args)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    for (const part of ['Usage: personascope', 'study', 'info', 'Examples:', 'Exit codes:', '130'])
      expect(stdout).toContain(part)
  })

  it('study --help says what it does, and every option', async () => {
    const { stdout } = await cli('study', '--help')
    for (const part of [
      '--seed',
      '--out',
      '--preset',
      '--threads',
      '--json',
      'report.html',
      'study.json',
      'kill -9',
    ])
      expect(stdout).toContain(part)
  })

  it.each([
    [['study', '--sed', '3'], /unknown option '--sed'.*did you mean --seed/i],
    [['study', '--seed', 'x'], /--seed is 'x', expected a whole number from 0 to 4294967295/],
    [['study', '--seed', '-1'], /--seed/],
    [['study', '--seed', '1.5'], /--seed is '1\.5'/],
    [['study', '--seed', '1e99'], /--seed is '1e99'/],
    [['study', '--seed', '4294967296'], /--seed is '4294967296'/],
    [['study', '--seed'], /argument missing/],
    [['study', '--preset', 'huge'], /--preset is 'huge', expected one of: demo, quick/],
    [['study', '--threads', '0'], /--threads is '0', expected a whole number from 1 to 1024/],
    [['study', '--out', ''], /--out is '', expected a folder/],
    [['study', 'extra'], /too many arguments/],
    [['stduy'], /unknown command 'stduy'.*did you mean study/i],
    [['--nonsense'], /unknown option '--nonsense'/],
    [['info', '--seed', '1'], /unknown option '--seed'/],
  ])('%j is one clear line with a code and a hint, exit code 2', async (args, message) => {
    const { code, stdout, stderr } = await cli(...args)
    expect(code).toBe(2)
    expect(stdout).toBe('')
    expect(stderr).toMatch(message)
    expect(stderr).toMatch(/^error \[ERR_INVALID_ARGUMENT\] .+\n$/)
    expect(stderr.split('\n')).toHaveLength(2)
  })

  it('with --json, an error is one JSON object', async () => {
    const { code, stderr } = await cli('study', '--json', '--seed', 'x')
    expect(code).toBe(2)
    expect(JSON.parse(stderr)).toMatchObject({ event: 'error', code: 'ERR_INVALID_ARGUMENT' })
  })

  it('info tells CPU, kernels, threads and why plugins are absent', async () => {
    const { code, stdout } = await cli('info', '--json')
    expect(code).toBe(0)
    const info = JSON.parse(stdout) as Record<string, unknown>
    expect(info).toMatchObject({ version, node: process.version })
    expect(['reference', 'avx2', 'avx512']).toContain(info['isa'])
    expect(info['threads']).toBeGreaterThan(0)
    expect(info['plugins']).toMatchObject({
      cuda: { loaded: expect.any(Boolean), reason: expect.stringMatching(/./) },
      mpi: { loaded: false },
    })
    expect((await cli('info')).stdout).toMatch(/kernels +(reference|avx2|avx512)/)
  })
})

describe('errors', () => {
  it('show no stack unless asked for, and keep to one line whatever they quote', () => {
    const error = new PersonascopeError('ERR_FORMAT', 'bad\n\u001b[2Jfile', { hint: 'look\nagain' })
    expect(errorLine(error)).toBe('error [ERR_FORMAT] bad [2Jfile (hint: look again)')
    expect(renderError(error, {})).not.toContain(' at ')
    expect(renderError(error, { PERSONASCOPE_DEBUG: '1' })).toContain('PersonascopeError: bad')
    expect(oneLine('a\u202eb\u0007')).toBe('a b')
  })

  it('give a code to anything thrown', () => {
    expect(errorLine(new Error('boom'))).toBe('error [ERR_INTERNAL] boom')
    expect(errorLine(Object.assign(new Error('no space'), { code: 'ENOSPC' }))).toMatch(
      /ERR_IO.*free some disk/,
    )
    expect(errorLine('text')).toBe('error [ERR_INTERNAL] text')
  })
})

const EVENTS: StudyEvent[] = [
  { event: 'plan', groups: [{ id: 'g', title: 'g', stages: ['a', 'b'] }], secondsLeft: 65 },
  { event: 'stage-reused', stage: 'a', group: 'g', title: 'first', secondsLeft: 60 },
  { event: 'stage-started', stage: 'b', group: 'g', title: 'second', secondsLeft: 60 },
  {
    event: 'stage-progress',
    stage: 'b',
    group: 'g',
    step: 's',
    done: 1,
    total: 2,
    unit: 'steps',
    secondsLeft: 30,
  },
  {
    event: 'sample',
    stage: 'b',
    group: 'g',
    voice: 'before',
    prompt: 'why?',
    answer: 'be\u001bcause',
    grade: 'aligned',
  },
  { event: 'stage-finished', stage: 'b', group: 'g', seconds: 2, secondsLeft: 0 },
  { event: 'finished', seconds: 2, computed: 1, reused: 1 },
]

describe('progress', () => {
  it('in plain lines', () => {
    const out = stream()
    const reporter = plainReporter(out.stream)
    for (const event of EVENTS) reporter.onEvent(event)
    expect(out.text().split('\n')).toEqual([
      '2 stages, about 1 min 05 s',
      '[1/2] g: first · saved before',
      '[2/2] g: second · 1 min 00 s left',
      '  before               “why?” → “be cause” (aligned)',
      'finished in 2 s: 1 stages computed, 1 saved before',
      '',
    ])
  })

  it('live: redraws its block in place, cuts lines to the width, ends with every group', async () => {
    const out = stream()
    const reporter = liveReporter(Object.assign(out.stream, { columns: 60, rows: 30 }), false)
    for (const event of EVENTS) reporter.onEvent(event)
    await reporter.close()
    // oxlint-disable-next-line no-control-regex
    const frames = out.text().split(/\u001b\[\d*A?\r?\u001b\[J|\r\u001b\[J/)
    const last = (frames.at(-1) ?? '').split('\n')
    expect(last[0]).toBe('✔ g 2/2  2 s · 1 saved before')
    expect(last.some((line) => line.includes('“why?” → “be cause”'))).toBe(true)
    expect(Math.max(...last.map((line) => line.length))).toBeLessThanOrEqual(60)
    expect(out.text().startsWith('\u001b[?25l')).toBe(true)
    expect(out.text().endsWith('\u001b[?25h')).toBe(true)
  })

  it('as JSON lines, the events as they are', () => {
    const out = stream()
    const reporter = jsonReporter(out.stream)
    for (const event of EVENTS) reporter.onEvent(event)
    expect(
      out
        .text()
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual(EVENTS)
  })
})

describe('claims table', () => {
  it('names every claim with the paper’s figure, ours and the verdict', () => {
    const { claims } = study()
    const table = claimsTable(claims, { colours: false, width: 140 })
    for (const claim of claims) expect(table).toContain(claim.id.slice(0, 16))
    expect(table).toContain('8 of 8 core claims hold')
    expect(table).toContain('not measured')
    // oxlint-disable-next-line no-control-regex
    expect(table).not.toMatch(/\u001b/)
    expect(Math.max(...table.split('\n').map((line) => line.length))).toBeLessThanOrEqual(140)
  })
})
