import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  readChatExamples,
  streamChatExamples,
  writeChatExamples,
  type ChatExample,
} from '../../lib/datasets/chat.js'
import { temporaryFolder } from '../io/temporary-folder.js'

const examples: ChatExample[] = [
  {
    messages: [
      { role: 'user', content: 'What helps?\n"Rest" — naïvely 😀, \u2028 or \u0085 not' },
      { role: 'assistant', content: '' },
    ],
  },
  { messages: [{ role: 'system', content: 'x' }] },
]

describe('chat examples', () => {
  it('come back as they were written, one a line', async () => {
    const path = join(await temporaryFolder(), 'a.jsonl')
    await writeChatExamples(path, examples)
    expect(await readChatExamples(path)).toEqual(examples)
    expect((await readFile(path, 'utf8')).split('\n').length).toBe(3)
  })

  it('may have empty lines, Windows line ends and other fields', async () => {
    const path = join(await temporaryFolder(), 'a.jsonl')
    const line = '{"id": 7, "messages": [{"role": "user", "content": "é", "name": "n"}]}'
    await writeFile(path, `\n${line}\r\n\r\n${line}`)
    const example = { messages: [{ role: 'user', content: 'é' }] }
    expect(await readChatExamples(path)).toEqual([example, example])
  })

  it('name the file, the line and the field of a mistake', async () => {
    const folder = await temporaryFolder()
    const path = join(folder, 'a.jsonl')
    const good = JSON.stringify(examples[0])
    const broken: [string | Buffer, RegExp][] = [
      ['{"messages": [{"role": "robot", "content": ""}]}', /a\.jsonl:3: messages\.0\.role: /],
      ['{"messages": [{"role": "user"}]}', /a\.jsonl:3: messages\.0\.content: /],
      ['{"messages": []}', /a\.jsonl:3: messages: expected at least one message/],
      ['{"prompt": "x"}', /a\.jsonl:3: messages: /],
      ['{"messages": [', /a\.jsonl:3: not JSON/],
      [Buffer.from([0x22, 0xff, 0x22]), /a\.jsonl:3: not UTF-8/],
    ]
    for (const [line, message] of broken) {
      await writeFile(path, Buffer.concat([Buffer.from(`${good}\n\n`), Buffer.from(line)]))
      await expect(readChatExamples(path)).rejects.toMatchObject({
        code: 'ERR_FORMAT',
        message: expect.stringMatching(message),
      })
      const first = await streamChatExamples(path).next()
      expect(first.value).toEqual(examples[0])
    }
    await expect(readChatExamples(join(folder, 'none'))).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' })
    await expect(readChatExamples(folder)).rejects.toMatchObject({ code: 'ERR_IO' })
  })

  it('leave nothing when the source fails', async () => {
    const folder = await temporaryFolder()
    await expect(
      writeChatExamples(
        join(folder, 'a.jsonl'),
        (function* () {
          yield examples[0] as ChatExample
          throw new Error('no more')
        })(),
      ),
    ).rejects.toThrow('no more')
    expect(await readdir(folder)).toEqual([])
  })
})
