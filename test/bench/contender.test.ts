import { expect, test } from 'vitest'
import { Contender } from '../../bench/contender.js'

const script = (body: string): [string, string[]] => [process.execPath, ['-e', body]]

test('a contender says hello and answers line by line', async () => {
  const [node, args] = script(`
    console.log(JSON.stringify({ hello: process.env.GREETING }))
    require('node:readline').createInterface({ input: process.stdin })
      .on('line', (line) => console.log(JSON.stringify({ said: line })))`)
  const contender = await Contender.start<{ hello: string }>(node, args, { GREETING: 'good day' })
  expect(contender.hello).toEqual({ hello: 'good day' })
  expect(await contender.ask('one 1')).toEqual({ said: 'one 1' })
  expect(await contender.ask('two')).toEqual({ said: 'two' })
  await contender.end()
})

test('one that is not there, dies or complains is told by name', async () => {
  await expect(Contender.start('/nowhere/python', [])).rejects.toThrow('/nowhere/python')
  const [node, dies] = script(`console.log('{}'); process.stdin.once('data', () => process.exit(3))`)
  const dying = await Contender.start(node, dies)
  await expect(dying.ask('run')).rejects.toThrow('status 3')
  await expect(dying.ask('again')).rejects.toThrow('status 3')
  const [, complains] = script(
    `console.log('{}'); process.stdin.once('data', () => console.log('{"error": "no such thing"}'))`,
  )
  const complaining = await Contender.start(node, complains)
  await expect(complaining.ask('run')).rejects.toThrow('no such thing')
  await complaining.end()
})
