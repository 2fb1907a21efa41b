import { PersonascopeError } from '../core/errors.js'

/** Prompts of one model's activations: their numbers, and a digest of their tokens where known. */
export interface PromptsOf {
  /** For messages, e.g. the path. */
  name: string
  prompts: ReadonlyMap<number, string | undefined>
}

/** Refuses models whose prompts differ: a paired comparison would mean nothing. `ERR_INVALID_ARGUMENT` names the first. */
export function requireSamePrompts(models: readonly PromptsOf[]): void {
  const [first, ...others] = models
  if (first === undefined) return
  const differ = (other: PromptsOf, what: string): PersonascopeError =>
    new PersonascopeError(
      'ERR_INVALID_ARGUMENT',
      `${first.name} and ${other.name} differ in their prompts: ${what}`,
      {
        hint: "capture both models on the same prompts, mark their answers in 'roles', or let prompts differ (--any-prompts)",
      },
    )
  for (const other of others) {
    for (const [prompt, digest] of first.prompts) {
      if (!other.prompts.has(prompt)) throw differ(other, `prompt ${prompt} is only in the first`)
      const theirs = other.prompts.get(prompt)
      if (digest !== undefined && theirs !== undefined && digest !== theirs)
        throw differ(other, `prompt ${prompt} has other tokens`)
    }
    for (const prompt of other.prompts.keys())
      if (!first.prompts.has(prompt)) throw differ(other, `prompt ${prompt} is only in the second`)
  }
}
