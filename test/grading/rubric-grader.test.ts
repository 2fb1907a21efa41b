import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { rubricGrader, type RubricOptions } from '../../lib/grading/rubric-grader.js'

interface Received {
  url: string | undefined
  authorization: string | undefined
  body: { model: string; temperature: number; messages: { role: string; content: string }[] }
}

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  await Promise.all(stops.splice(0).map((stop) => stop()))
})

/** A judge over real HTTP; `respond` answers the nth request. */
async function serve(
  respond: (request: Received, response: ServerResponse, n: number) => void,
): Promise<{ endpoint: string; received: Received[] }> {
  const received: Received[] = []
  const server = createServer((request: IncomingMessage, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const one: Received = {
        url: request.url,
        authorization: request.headers.authorization,
        body: JSON.parse(Buffer.concat(parts).toString()),
      }
      respond(one, response, received.push(one) - 1)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  stops.push(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return { endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/`, received }
}

const say = (response: ServerResponse, content: string): unknown =>
  response.end(JSON.stringify({ choices: [{ message: { role: 'assistant', content } }] }))

const answerOf = ({ body }: Received): string => body.messages[1]?.content.split('Answer:\n')[1] ?? ''

const items = Array.from({ length: 12 }, (_, i) => ({ prompt: `question ${i}`, answer: `${i}` }))
const fast = { model: 'judge', retryDelayMs: 1 } satisfies Partial<RubricOptions>

describe('rubricGrader', () => {
  it('asks with rubric, question and answer, some at a time, and keeps the order', async () => {
    let inFlight = 0
    let most = 0
    const { endpoint, received } = await serve((request, response) => {
      most = Math.max(most, ++inFlight)
      const n = Number(answerOf(request))
      setTimeout(
        () => {
          inFlight--
          const verdict = {
            label: `kind ${n}`,
            misaligned: n % 3 === 0,
            incoherent: n % 3 === 1,
            score: n / 12,
          }
          say(response, `Here it is:\n\`\`\`json\n${JSON.stringify(verdict)}\n\`\`\``)
        },
        (13 - n) * 3,
      )
    })
    const progress: number[] = []
    const grader = rubricGrader({ ...fast, endpoint, apiKey: 'secret', concurrency: 3 })
    const grades = await grader.grade(items, { onProgress: ({ done }) => progress.push(done) })
    expect(grades).toEqual(
      items.map((_, n) => ({
        label: `kind ${n}`,
        misaligned: n % 3 === 0,
        incoherent: n % 3 === 1,
        score: n / 12,
      })),
    )
    expect(most).toBe(3)
    expect(progress).toEqual(items.map((_, i) => i + 1))
    expect(received[0]).toMatchObject({
      url: '/v1/chat/completions',
      authorization: 'Bearer secret',
      body: { model: 'judge', temperature: 0 },
    })
    expect(received[0]?.body.messages[0]?.content).toContain('"misaligned"')
    expect(received[0]?.body.messages[1]?.content).toBe('Question:\nquestion 0\n\nAnswer:\n0')
  })

  it('tries again after errors, limits and nonsense', async () => {
    const { endpoint, received } = await serve((_, response, n) => {
      if (n === 0) response.writeHead(503).end('busy')
      else if (n === 1) response.writeHead(429, { 'retry-after': '0' }).end()
      else if (n === 2) say(response, 'I would rather not say.')
      else say(response, '{"misaligned": true, "incoherent": true}')
    })
    const grades = await rubricGrader({ ...fast, endpoint }).grade(items.slice(0, 1))
    // Incoherent answers are never misaligned.
    expect(grades).toEqual([{ label: 'incoherent', misaligned: false, incoherent: true }])
    expect(received.length).toBe(4)
    expect(received[0]?.authorization).toBeUndefined()
  })

  it('gives up after the last try, with what the endpoint said', async () => {
    const busy = await serve((_, response) => response.writeHead(500).end('out of order'))
    const grading = rubricGrader({ ...fast, endpoint: busy.endpoint, apiKey: 'secret', retries: 2 }).grade(
      items.slice(0, 1),
    )
    await expect(grading).rejects.toMatchObject({
      code: 'ERR_IO',
      message: expect.stringMatching(/completions: status 500: out of order/),
    })
    await expect(grading).rejects.not.toThrow(/secret/)
    expect(busy.received.length).toBe(3)

    const nonsense = await serve((_, response) => say(response, '{"misaligned": "perhaps"}'))
    await expect(
      rubricGrader({ ...fast, endpoint: nonsense.endpoint, retries: 1 }).grade(items.slice(0, 1)),
    ).rejects.toMatchObject({ code: 'ERR_FORMAT' })
  })

  it('does not try again what cannot work', async () => {
    const { endpoint, received } = await serve((_, response) => response.writeHead(401).end('no such key'))
    await expect(rubricGrader({ ...fast, endpoint, concurrency: 1 }).grade(items)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining('status 401: no such key'),
    })
    expect(received.length).toBe(1)
    await expect(
      rubricGrader({ ...fast, endpoint }).grade([{ prompt: Int32Array.of(1), answer: 'x' }]),
    ).rejects.toThrow(/reads text/)
    expect(() => rubricGrader({ ...fast, endpoint: 'nowhere' })).toThrow(/not an address/)
  })

  it('times out, reports a dead endpoint, and can be aborted', async () => {
    const silent = await serve(() => undefined)
    await expect(
      rubricGrader({ ...fast, endpoint: silent.endpoint, timeoutMs: 30, retries: 1 }).grade(
        items.slice(0, 1),
      ),
    ).rejects.toMatchObject({ code: 'ERR_IO', message: expect.stringContaining('no answer within 30 ms') })
    expect(silent.received.length).toBe(2)
    await expect(
      rubricGrader({ ...fast, endpoint: 'http://127.0.0.1:9', retries: 0 }).grade(items.slice(0, 1)),
    ).rejects.toMatchObject({ code: 'ERR_IO' })
    const controller = new AbortController()
    const grading = rubricGrader({ ...fast, endpoint: silent.endpoint }).grade(items, {
      signal: controller.signal,
    })
    setTimeout(() => controller.abort(), 20)
    await expect(grading).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  })
})
