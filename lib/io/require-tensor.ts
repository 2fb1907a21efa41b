import { PersonascopeError } from '../core/errors.js'

/** The tensor of that name; `ERR_NOT_FOUND` if it is not there, `ERR_FORMAT` unless it has this shape. */
export function requireTensor<Tensor extends { readonly shape: readonly number[] }>(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  name: string,
  shape?: readonly number[],
): Tensor {
  const tensor = tensors.get(name)
  if (tensor === undefined) {
    const there = [...tensors.keys()].slice(0, 8).join(', ')
    throw new PersonascopeError(
      'ERR_NOT_FOUND',
      `${path}: no tensor '${name}'; found ${there === '' ? 'none' : there}`,
    )
  }
  const found = tensor.shape
  if (
    shape !== undefined &&
    (found.length !== shape.length || found.some((extent, i) => extent !== shape[i]))
  )
    throw new PersonascopeError(
      'ERR_FORMAT',
      `${path}: tensor '${name}' has shape [${found.join(', ')}], expected [${shape.join(', ')}]`,
    )
  return tensor
}
