/**
 * Seeded random numbers for everything that TypeScript generates (worlds,
 * documents, prompts, orders). The same seed gives the same bits on every
 * machine: only 32-bit integer operations decide, apart from `gaussian`.
 *
 * Source: xoshiro128** of Blackman and Vigna (2018); its state is filled by
 * splitmix32 so that neighbouring seeds give unrelated streams.
 */

/** Thirty-two bit FNV-1a hash, used to derive streams from labels. */
function hashLabel(label: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < label.length; i++) {
    hash = Math.imul(hash ^ label.charCodeAt(i), 0x01000193)
  }
  return hash >>> 0
}

/** One step of splitmix32: returns the mixed value for a given counter. */
function splitmix32(counter: number): number {
  let z = counter | 0
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
  return (z ^ (z >>> 15)) >>> 0
}

export class Random {
  readonly #origin: readonly [number, number]
  #a: number
  #b: number
  #c: number
  #d: number

  /** `seed` is any safe non-negative integer; both of its 32-bit halves count. */
  constructor(seed: number) {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new RangeError(`seed must be a non-negative integer, found ${seed}`)
    }
    const low = seed >>> 0
    const high = Math.floor(seed / 0x1_0000_0000) >>> 0
    this.#origin = [low, high]
    const golden = 0x9e3779b9
    let counter = (splitmix32(high ^ 0x5bd1e995) ^ low) >>> 0
    const next = (): number => {
      counter = (counter + golden) >>> 0
      return splitmix32(counter)
    }
    this.#a = next()
    this.#b = next()
    this.#c = next()
    this.#d = next() | 1 // the all-zero state would stay zero for ever
  }

  /** An independent stream named by `label`; does not advance this one. */
  fork(label: string): Random {
    const [low, high] = this.#origin
    const mixed = splitmix32(hashLabel(label) ^ splitmix32(low) ^ Math.imul(high, 0x85ebca6b))
    const upper = splitmix32(mixed ^ hashLabel(`${label}/upper`)) & 0x1fffff
    return new Random(upper * 0x1_0000_0000 + mixed)
  }

  /** Uniform in [0, 2³²). */
  uint32(): number {
    const product = Math.imul(this.#b, 5)
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0
    const shifted = this.#b << 9
    this.#c ^= this.#a
    this.#d ^= this.#b
    this.#b ^= this.#c
    this.#a ^= this.#d
    this.#c ^= shifted
    this.#d = (this.#d << 11) | (this.#d >>> 21)
    return result
  }

  /** Uniform in [0, 1), 32 bits of resolution. */
  float(): number {
    return this.uint32() / 0x1_0000_0000
  }

  /** Uniform integer in [0, n), without modulo bias. */
  integer(n: number): number {
    if (!Number.isInteger(n) || n <= 0 || n > 0x1_0000_0000) {
      throw new RangeError(`n must be an integer in 1 … 2^32, found ${n}`)
    }
    const limit = 0x1_0000_0000 - (0x1_0000_0000 % n)
    let value = this.uint32()
    while (value >= limit) value = this.uint32()
    return value % n
  }

  /** True with probability `p`. */
  chance(p: number): boolean {
    return this.float() < p
  }

  /** Standard normal (Box and Muller; one of the pair is dropped to keep no state). */
  gaussian(): number {
    const radius = Math.sqrt(-2 * Math.log((this.uint32() + 1) / 0x1_0000_0000))
    return radius * Math.cos(2 * Math.PI * this.float())
  }

  /** One item of a non-empty list. */
  pick<T>(items: readonly T[]): T {
    return items[this.integer(items.length)] as T
  }

  /** Index drawn in proportion to `weights` (non-negative, not all zero). */
  weighted(weights: readonly number[]): number {
    let total = 0
    for (const weight of weights) total += weight
    let left = this.float() * total
    for (let i = 0; i < weights.length - 1; i++) {
      left -= weights[i] as number
      if (left < 0) return i
    }
    return weights.length - 1
  }

  /** A shuffled copy (Fisher and Yates). */
  shuffle<T>(items: readonly T[]): T[] {
    const out = items.slice()
    for (let i = out.length - 1; i > 0; i--) {
      const j = this.integer(i + 1)
      const held = out[i] as T
      out[i] = out[j] as T
      out[j] = held
    }
    return out
  }
}
