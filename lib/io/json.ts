import { readFile } from 'node:fs/promises'
import type { z } from 'zod'
import { PersonascopeError, toPersonascopeError } from '../core/errors.js'
import { writeFileAtomic } from './atomic.js'

/** Text of a UTF-8 file. Errors: `ERR_NOT_FOUND`, `ERR_IO`, `ERR_FORMAT` (not UTF-8). */
export async function readText(path: string): Promise<string> {
  let bytes: Buffer
  try {
    bytes = await readFile(path)
  } catch (error) {
    throw toPersonascopeError(error, path)
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new PersonascopeError('ERR_FORMAT', `${path}: not UTF-8 text`, { cause })
  }
}

/** Reads a JSON file and checks it against a schema. Errors name the file, the field and the problem. */
export async function readJson<Schema extends z.ZodType>(
  path: string,
  schema: Schema,
): Promise<z.output<Schema>> {
  return parseJson(await readText(path), schema, path)
}

/** As {@link readJson}, of text at hand; `where` is put before error messages. */
export function parseJson<Schema extends z.ZodType>(
  text: string,
  schema: Schema,
  where: string,
): z.output<Schema> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new PersonascopeError('ERR_FORMAT', `${where}: not JSON: ${(cause as Error).message}`, { cause })
  }
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const problems = result.error.issues.slice(0, 3).map((issue) => {
    const field = issue.path.map(String).join('.')
    return field === '' ? issue.message : `${field}: ${issue.message}`
  })
  const more = result.error.issues.length - problems.length
  throw new PersonascopeError(
    'ERR_FORMAT',
    `${where}: ${problems.join('; ')}${more > 0 ? `; and ${more} more` : ''}`,
    { cause: result.error },
  )
}

/** Writes a value as indented JSON, beside and renamed. NaN and infinities are refused, not written as null. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  const text = JSON.stringify(
    value,
    (key, item: unknown) => {
      if (typeof item === 'number' && !Number.isFinite(item))
        throw new PersonascopeError('ERR_NON_FINITE', `${path}: field '${key}' is ${item}`)
      return item
    },
    2,
  )
  await writeFileAtomic(path, `${text}\n`)
}
