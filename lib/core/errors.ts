/** Codes of {@link PersonascopeError}; the native core uses the same names. */
export type ErrorCode =
  | 'ERR_INVALID_ARGUMENT'
  | 'ERR_NOT_FOUND'
  | 'ERR_FORMAT'
  | 'ERR_NON_FINITE'
  | 'ERR_IO'
  | 'ERR_OUT_OF_MEMORY'
  | 'ERR_ABORTED'
  | 'ERR_INTERNAL'

/** Every failure of this package: what was found, what was expected, where; `code` for programs, `hint` for people. */
export class PersonascopeError extends Error {
  override readonly name = 'PersonascopeError'
  readonly code: ErrorCode
  /** What the user can do about it, where that is known. */
  readonly hint: string | undefined

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.hint = options.hint
  }
}

const codes = new Set<string>([
  'ERR_INVALID_ARGUMENT',
  'ERR_NOT_FOUND',
  'ERR_FORMAT',
  'ERR_NON_FINITE',
  'ERR_IO',
  'ERR_OUT_OF_MEMORY',
  'ERR_ABORTED',
  'ERR_INTERNAL',
])

function codeOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : ''
}

/** Turns anything thrown (by the core, by node:fs, by a library) into a PersonascopeError; `where` is put before the message. */
export function toPersonascopeError(error: unknown, where?: string): PersonascopeError {
  if (error instanceof PersonascopeError) return error
  const message = error instanceof Error ? error.message : String(error)
  const text = where === undefined ? message : `${where}: ${message}`
  const code = codeOf(error)
  if (codes.has(code)) return new PersonascopeError(code as ErrorCode, text, { cause: error })
  if (error instanceof Error && error.name === 'AbortError')
    return new PersonascopeError('ERR_ABORTED', text, { cause: error })
  switch (code) {
    case 'ENOENT':
      return new PersonascopeError('ERR_NOT_FOUND', text, { cause: error })
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new PersonascopeError('ERR_IO', text, {
        hint: 'choose a folder that you may write to',
        cause: error,
      })
    case 'ENOSPC':
      return new PersonascopeError('ERR_IO', text, {
        hint: 'free some disk space and run it again',
        cause: error,
      })
    default:
      return new PersonascopeError(code.startsWith('E') ? 'ERR_IO' : 'ERR_INTERNAL', text, { cause: error })
  }
}

/** Throws `ERR_INVALID_ARGUMENT` unless `condition` holds. */
export function requireArgument(condition: unknown, message: string, hint?: string): asserts condition {
  if (!condition)
    throw new PersonascopeError('ERR_INVALID_ARGUMENT', message, hint === undefined ? {} : { hint })
}
