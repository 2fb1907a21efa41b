/**
 * Memory of a device as an object. `free()` (or `using`) gives it back at once; what is forgotten is collected. After
 * `free()` every use is `ERR_INVALID_ARGUMENT`.
 */
export abstract class DeviceMemory<Native extends { free(): void }> implements Disposable {
  /** @internal */
  readonly native: Native
  #freed = false

  /** @internal */
  protected constructor(native: Native) {
    this.native = native
  }

  /** Gives the memory back, once no view and no running call uses it. May be called again. */
  free(): void {
    this.#freed = true
    this.native.free()
  }

  get freed(): boolean {
    return this.#freed
  }

  [Symbol.dispose](): void {
    this.free()
  }
}
