/** What must hold of a command's output before hours of work go into it. */
import { access, constants, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve, sep } from 'node:path'
import { PersonascopeError, toPersonascopeError } from '../core/errors.js'
import { removePartials } from '../io/atomic.js'

/**
 * Refuses an output that is a folder, cannot be written, or would replace an input or lie among its files; removes what
 * a killed run left of the same output. Errors: `ERR_INVALID_ARGUMENT`, `ERR_IO`.
 */
export async function prepareOutput(out: string, inputs: readonly (string | undefined)[]): Promise<void> {
  const refuse = (what: string): never => {
    throw new PersonascopeError('ERR_INVALID_ARGUMENT', `--out ${out}: ${what}`, {
      hint: 'name another file',
    })
  }
  if ((await stat(out).catch(() => undefined))?.isDirectory() === true)
    refuse('found a folder, expected the name of a file')
  const { ancestor, rest } = await nearestFolder(dirname(resolve(out)))
  await access(ancestor, constants.W_OK).catch((error: unknown) => {
    throw toPersonascopeError(error, out)
  })
  const target = join(await realpath(ancestor), rest, basename(out))
  const real = await realpath(target).catch(() => target) // it may be a link to an input
  for (const input of inputs) {
    if (input === undefined) continue
    const found = await realpath(input).catch(() => undefined)
    if (found === undefined) continue // reading it tells that it is missing
    if (real === found) refuse(`found the input ${input}, which would be lost`)
    if (real.startsWith(found + sep)) refuse(`found a place within the input ${input}, expected one outside`)
  }
  await removePartials(dirname(target), basename(out))
}

/** The folder itself, or the nearest above it that is there, and the way down from that. */
async function nearestFolder(folder: string): Promise<{ ancestor: string; rest: string }> {
  let ancestor = folder
  while (!(await stat(ancestor).catch(() => undefined))?.isDirectory() && dirname(ancestor) !== ancestor)
    ancestor = dirname(ancestor)
  return { ancestor, rest: folder.slice(ancestor.length) }
}
