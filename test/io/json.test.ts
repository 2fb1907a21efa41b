import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { z } from 'zod'
import { readJson, writeJson } from '../../lib/io/json.js'
import { temporaryFolder } from './temporary-folder.js'

const schema = z.object({ name: z.string(), sizes: z.array(z.number().int()) })

it('reads what it wrote', async () => {
  const path = join(await temporaryFolder(), 'a.json')
  await writeJson(path, { name: 'x', sizes: [1, 2] })
  expect(await readJson(path, schema)).toEqual({ name: 'x', sizes: [1, 2] })
  expect((await readFile(path, 'utf8')).endsWith('}\n')).toBe(true)
})

it('names the file and the field', async () => {
  const path = join(await temporaryFolder(), 'a.json')
  await writeFile(path, '{"name": "x", "sizes": [1, "two"]}')
  await expect(readJson(path, schema)).rejects.toThrow(/a\.json: sizes\.1: .*number/)
  await writeFile(path, '{"name": ')
  await expect(readJson(path, schema)).rejects.toMatchObject({
    code: 'ERR_FORMAT',
    message: expect.stringContaining('a.json: not JSON'),
  })
  await writeFile(path, Buffer.from([0x22, 0xff, 0x22]))
  await expect(readJson(path, schema)).rejects.toThrow(/not UTF-8/)
  await expect(readJson(join(path, 'x'), schema)).rejects.toMatchObject({ code: 'ERR_IO' })
  await expect(readJson(`${path}x`, schema)).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' })
})

it('refuses NaN', async () => {
  const folder = await temporaryFolder()
  await expect(writeJson(join(folder, 'a.json'), { loss: Number.NaN })).rejects.toThrow(/field 'loss' is NaN/)
  expect(await readdir(folder)).toEqual([])
})
