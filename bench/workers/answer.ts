/** The worker's end of a contender: see bench/contender.ts. */
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Times } from '../contender.js'

export type Commands = Record<string, (words: string[]) => Promise<object>>

function say(said: object): void {
  process.stdout.write(`${JSON.stringify(said)}\n`)
}

export async function answer(hello: object, commands: Commands): Promise<void> {
  say(hello)
  for await (const line of createInterface({ input: process.stdin })) {
    const [name = '', ...words] = line.split(' ')
    const command = commands[name]
    try {
      say(command === undefined ? { error: `unknown command '${name}'` } : await command(words))
    } catch (error) {
      say({ error: error instanceof Error ? error.message : String(error) })
    }
  }
}

export async function timed<Result>(work: () => Promise<Result>): Promise<[Times, Result]> {
  const cpu = process.cpuUsage()
  const start = performance.now()
  const result = await work()
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(cpu)
  return [{ seconds, cpuSeconds: (user + system) / 1e6 }, result]
}

/** Looks at the memory every few milliseconds while work goes on off the event loop. */
export class Watch {
  /** Largest resident memory that is no page of a mapped file, bytes. */
  peakAnonymous = 0

  look(): void {
    this.peakAnonymous = Math.max(this.peakAnonymous, memory()('RssAnon'))
  }

  async during<Result>(work: () => Promise<Result>): Promise<Result> {
    const timer = setInterval(() => this.look(), 5)
    try {
      return await work()
    } finally {
      clearInterval(timer)
      this.look()
    }
  }
}

/** Lines of a process' /proc/…/status in bytes, e.g. VmHWM (peak resident memory) and RssAnon. */
export function memory(id: number | 'self' = 'self'): (field: string) => number {
  const status = readFileSync(`/proc/${id}/status`, 'utf8')
  return (field) => {
    const found = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)
    return found === null ? 0 : Number(found[1]) * 1024
  }
}
