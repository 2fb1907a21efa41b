import { requireArgument } from '../core/errors.js'

/** Where in a block the residual stream is read or changed: before it, between attention and MLP, after it. */
export type HookPoint = 'resid_pre' | 'resid_mid' | 'resid_post'

/** A place in the residual stream: a point of one layer, layers counted from 0. */
export interface Hook {
  point: HookPoint
  layer: number
}

const pattern =
  /^(?:blocks\.(\d+)\.hook_(resid_pre|resid_mid|resid_post)|(resid_pre|resid_mid|resid_post)\.(\d+))$/

/** Reads 'resid_post.15' or TransformerLens' 'blocks.15.hook_resid_post'. */
export function parseHook(text: string): Hook {
  const match = pattern.exec(text)
  requireArgument(
    match !== null,
    `hook '${text}' is not known`,
    "expected e.g. 'resid_post.15' or 'blocks.15.hook_resid_post'",
  )
  return { point: (match[2] ?? match[3]) as HookPoint, layer: Number(match[1] ?? match[4]) }
}

/** TransformerLens' name of a hook, as SAE configurations store it. */
export function hookName(hook: Hook): string {
  return `blocks.${hook.layer}.hook_${hook.point}`
}
