/** Chat examples in the usual JSON Lines form: {"messages": [{"role": "user", "content": "…"}, …]} a line. */
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import { PersonascopeError, toPersonascopeError } from '../core/errors.js'
import { writeAtomic } from '../io/atomic.js'
import { parseJson } from '../io/json.js'
import type { ChatMessage } from '../models/language-model.js'

export interface ChatExample {
  messages: ChatMessage[]
}

const exampleSchema = z.object({
  messages: z
    .array(z.object({ role: z.enum(['system', 'user', 'assistant']), content: z.string() }))
    .min(1, 'expected at least one message'),
})

/**
 * Reads examples one by one, so that a file may be larger than memory. Empty lines are passed over; other fields of a
 * line are left out. Errors: `ERR_NOT_FOUND`, `ERR_IO`, `ERR_FORMAT` as `file:line: messages.0.role: …`.
 */
export async function* streamChatExamples(path: string): AsyncGenerator<ChatExample, void, undefined> {
  const file = createReadStream(path)
  const decoder = new TextDecoder('utf-8', { fatal: true })
  // The bytes are read as Latin-1, so that lines are cut before UTF-8 is checked line by line.
  file.setEncoding('latin1')
  const lines = createInterface({ input: file, crlfDelay: Number.POSITIVE_INFINITY })
  let number = 0
  try {
    for await (const bytes of lines) {
      const where = `${path}:${++number}`
      let line: string
      try {
        line = decoder.decode(Buffer.from(bytes, 'latin1'))
      } catch (cause) {
        throw new PersonascopeError('ERR_FORMAT', `${where}: not UTF-8 text`, { cause })
      }
      if (line.trim() !== '') yield parseJson(line, exampleSchema, where)
    }
  } catch (error) {
    throw toPersonascopeError(error, path)
  } finally {
    file.destroy()
  }
}

/** {@link streamChatExamples}, all at once. */
export async function readChatExamples(path: string): Promise<ChatExample[]> {
  const examples: ChatExample[] = []
  for await (const example of streamChatExamples(path)) examples.push(example)
  return examples
}

/** Writes examples, one a line, beside and renamed. */
export async function writeChatExamples(
  path: string,
  examples: Iterable<ChatExample> | AsyncIterable<ChatExample>,
): Promise<void> {
  await writeAtomic(path, async (write) => {
    for await (const { messages } of examples)
      await write(
        `${JSON.stringify({ messages: messages.map(({ role, content }) => ({ role, content })) })}\n`,
      )
  })
}
