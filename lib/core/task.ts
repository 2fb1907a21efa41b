import { PersonascopeError, toPersonascopeError } from './errors.js'

/** What a long operation tells while it runs. `unit` says what `done` and `total` count, e.g. 'tokens'. */
export interface Progress {
  done: number
  /** 0 when the total is not known. */
  total: number
  unit: string
}

/** Options that every long call takes. */
export interface TaskOptions {
  /** Aborting rejects the call with `ERR_ABORTED` and leaves nothing half-written. */
  signal?: AbortSignal | undefined
  onProgress?: ((progress: Progress) => void) | undefined
}

/** What a native job takes as its last argument. */
export interface NativeJobOptions {
  control: Int32Array
  onProgress?: (done: number, total: number) => void
}

/**
 * Runs a native job: hands it an abort flag that follows `options.signal`, forwards its progress, and turns its
 * failure into a PersonascopeError.
 */
export async function runNative<Result>(
  options: TaskOptions | undefined,
  unit: string,
  start: (job: NativeJobOptions) => Promise<Result>,
): Promise<Result> {
  throwIfAborted(options)
  const control = new Int32Array(1)
  const abort = (): void => void Atomics.store(control, 0, 1)
  const { signal, onProgress } = options ?? {}
  signal?.addEventListener('abort', abort, { once: true })
  try {
    return await start({
      control,
      ...(onProgress
        ? { onProgress: (done: number, total: number) => onProgress({ done, total, unit }) }
        : {}),
    })
  } catch (error) {
    throw toPersonascopeError(error)
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

/** Runs a synchronous native call, turning its failure into a PersonascopeError. */
export function callNative<Result>(call: () => Result): Result {
  try {
    return call()
  } catch (error) {
    throw toPersonascopeError(error)
  }
}

export function throwIfAborted(options: TaskOptions | undefined): void {
  if (options?.signal?.aborted) throw new PersonascopeError('ERR_ABORTED', 'the operation was aborted')
}
