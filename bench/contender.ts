/** A process that says hello with one JSON line and then answers one JSON line a command, so that several alternate. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

export interface Times {
  /** Wall time. */
  seconds: number
  cpuSeconds: number
}

export class Contender<Hello> {
  private constructor(
    readonly hello: Hello,
    readonly ask: <Answer>(command: string) => Promise<Answer>,
    /** Lets it end; resolves when it has. */
    readonly end: () => Promise<void>,
  ) {}

  static async start<Hello>(
    command: string,
    args: readonly string[],
    environment: Record<string, string> = {},
  ): Promise<Contender<Hello>> {
    const child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...environment },
    })
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const closed = new Promise<string>((resolve) => {
      child.on('error', (error) => resolve(error.message))
      child.on('close', (status, signal) => resolve(`it ended with ${signal ?? `status ${status}`}`))
    })
    child.stdin.on('error', () => {}) // it ended: said by whoever asks next
    const answer = async <Answer>(): Promise<Answer> => {
      const next = await lines.next()
      const text: unknown = next.value
      if (next.done === true || typeof text !== 'string')
        throw new Error(`bench: ${[command, ...args].join(' ')}: ${await closed}`)
      const said = JSON.parse(text) as Answer & { error?: string }
      if (said.error !== undefined) throw new Error(`bench: ${command}: ${said.error}`)
      return said
    }
    return new Contender(
      await answer<Hello>(),
      (line) => {
        child.stdin.write(`${line}\n`)
        return answer()
      },
      async () => {
        child.stdin.end()
        await closed
      },
    )
  }
}
