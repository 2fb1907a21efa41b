/** Of which SAE and tokens a file of statistics is: others cannot be compared with it, nor merged. */
import { PersonascopeError } from '../core/errors.js'
import { encoderDigest } from '../sae/encoder-digest.js'
import type { Sae } from '../sae/sae.js'
import type { StreamOptions } from './stream-commands.js'

/** Kept in the metadata of statistics that the command line writes; those of the library may say nothing. */
export interface Origin {
  sae?: string | undefined
  tokens?: string | undefined
}

export const originOf = (sae: Sae, options: StreamOptions): Required<Origin> => ({
  sae: encoderDigest(sae),
  tokens: options.tokens,
})

/** Of what {@link LatentStats.loadWithExtra} read. */
export const originFrom = ({ sae, tokens }: Readonly<Record<string, string>>): Origin => ({ sae, tokens })

/** Statistics, or what some are made of, and what they are called. */
export interface Named {
  name: string
  origin: Origin
}

/** What is said where two differ, of one and of the first that says something. */
const differences = {
  sae: (_: Named, first: Named): [what: string, hint: string] => [
    `latents of another SAE than those of ${first.name}`,
    'collect the statistics of both with the same SAE',
  ],
  tokens: ({ origin }: Named, first: Named): [what: string, hint: string] => [
    `found statistics of --tokens ${origin.tokens}, expected ${first.origin.tokens} as in ${first.name}`,
    'collect the statistics of both over the same tokens',
  ],
} as const

/** `ERR_INVALID_ARGUMENT` where two of them say different things. */
export function requireSameOrigin(all: readonly Named[]): void {
  const says = (['sae', 'tokens'] as const).map(
    (key) => [key, all.find(({ origin }) => origin[key] !== undefined)] as const,
  )
  for (const one of all)
    for (const [key, first] of says) {
      if (first === undefined || (one.origin[key] ?? first.origin[key]) === first.origin[key]) continue
      const [what, hint] = differences[key](one, first)
      throw new PersonascopeError('ERR_INVALID_ARGUMENT', `${one.name}: ${what}`, { hint })
    }
}
