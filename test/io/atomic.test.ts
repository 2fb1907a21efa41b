import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { removePartials, writeAtomic, writeFileAtomic } from '../../lib/io/atomic.js'
import { temporaryFolder } from './temporary-folder.js'

describe('writeAtomic', () => {
  it('replaces a file whole', async () => {
    const folder = await temporaryFolder()
    const path = join(folder, 'a')
    await writeFileAtomic(path, 'first, and longer')
    const count = await writeAtomic(path, async (write) => {
      await write('sec')
      expect(await readFile(path, 'utf8')).toBe('first, and longer')
      await write(Buffer.from('ond'))
      return 2
    })
    expect(count).toBe(2)
    expect(await readFile(path, 'utf8')).toBe('second')
    expect(await readdir(folder)).toEqual(['a'])
  })

  it('leaves the old file when the body fails', async () => {
    const folder = await temporaryFolder()
    const path = join(folder, 'a')
    await writeFile(path, 'old')
    const failing = writeAtomic(path, async (write) => {
      await write('new')
      throw new Error('disk on fire')
    })
    await expect(failing).rejects.toThrow('disk on fire')
    expect(await readFile(path, 'utf8')).toBe('old')
    expect(await readdir(folder)).toEqual(['a'])
  })

  it('reports a full disk as ERR_IO with a hint', async () => {
    // /dev/full would be the rename's target only; a write to it is what fails with ENOSPC.
    const folder = await temporaryFolder()
    const path = join(folder, 'a')
    const failing = writeAtomic(path, async () => {
      await writeFile('/dev/full', 'x')
    })
    await expect(failing).rejects.toMatchObject({
      code: 'ERR_IO',
      hint: expect.stringContaining('disk space'),
    })
    expect(await readdir(folder)).toEqual([])
  })

  it('reports a folder that cannot be made', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'file'), '')
    await expect(writeFileAtomic(join(folder, 'file', 'below'), 'x')).rejects.toMatchObject({
      code: 'ERR_IO',
    })
    await mkdir(join(folder, 'taken'))
    await writeFile(join(folder, 'taken', 'x'), '')
    await expect(writeFileAtomic(join(folder, 'taken'), 'x')).rejects.toMatchObject({ code: 'ERR_IO' })
    expect((await readdir(folder)).toSorted()).toEqual(['file', 'taken'])
  })

  it('removes what a killed process left', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, '.a.0123456789ab.partial'), '')
    await writeFile(join(folder, 'b'), '')
    await removePartials(folder)
    await removePartials(join(folder, 'missing'))
    expect(await readdir(folder)).toEqual(['b'])
  })
})
