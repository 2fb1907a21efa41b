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

/** `ERR_INVALID_ARGUMENT` where two of them say different things. */
export function requireSameOrigin(all: readonly Named[]): void {
  const first = <Key extends keyof Origin>(key: Key): Named | undefined =>
    all.find(({ origin }) => origin[key] !== undefined)
  for (const { name, origin } of all) {
    const [sae, tokens] = [first('sae'), first('tokens')]
    if (origin.sae !== undefined && origin.sae !== sae!.origin.sae)
      throw new PersonascopeError(
        'ERR_INVALID_ARGUMENT',
        `${name}: latents of another SAE than those of ${sae!.name}`,
        { hint: 'collect the statistics of both with the same SAE' },
      )
    if (origin.tokens !== undefined && origin.tokens !== tokens!.origin.tokens)
      throw new PersonascopeError(
        'ERR_INVALID_ARGUMENT',
        `${name}: found statistics of --tokens ${origin.tokens}, expected ${tokens!.origin.tokens} as in ${tokens!.name}`,
        { hint: 'collect the statistics of both over the same tokens' },
      )
  }
}
