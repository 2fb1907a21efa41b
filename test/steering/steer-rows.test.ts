import { describe, expect, it } from 'vitest'
import { DeviceTensor } from '../../lib/core/device-tensor.js'
import { SteeringPlan } from '../../lib/steering/plan.js'
import { rowSteering, steerRows, type RowSteering } from '../../lib/steering/steer-rows.js'
import { devices, wave } from '../support/devices.js'

const width = 6
const rows = 5

/** Two orthonormal vectors with more than one component. */
const vectors = Float32Array.of(0.6, 0.8, 0, 0, 0, 0, 0, 0, 0, 0, 0.8, -0.6)
const centre = wave(width, 0.4)

/** One row changed as the formulas say, in double precision. */
function steered(x: number[], { operation, amounts, low, high, ...rest }: RowSteering): number[] {
  const c = rest.centre ?? new Float32Array(width)
  const v = [0, 1].map((j) => Array.from(rest.vectors.subarray(j * width, (j + 1) * width)))
  const along = v.map((one) => one.reduce((sum, value, i) => sum + value * (x[i]! - c[i]!), 0))
  const factor = along.map((a, j) =>
    operation === 'add'
      ? amounts![j]!
      : operation === 'ablate'
        ? -a
        : operation === 'clamp'
          ? Math.min(Math.max(a, low![j]!), high![j]!) - a
          : a,
  )
  const from = operation === 'project' ? Array.from(c) : x
  return from.map((value, i) => value + factor[0]! * v[0]![i]! + factor[1]! * v[1]![i]!)
}

const steerings: RowSteering[] = [
  { operation: 'add', vectors, dimensions: 2, amounts: Float32Array.of(0.5, -2) },
  { operation: 'ablate', vectors, dimensions: 2, centre },
  {
    operation: 'clamp',
    vectors,
    dimensions: 2,
    low: Float32Array.of(-0.1, 0.3),
    high: Float32Array.of(0.1, Infinity),
  },
  { operation: 'project', vectors, dimensions: 2, centre },
]

describe.each([...devices, 'array' as const])('rows on %s', (device) => {
  /** Steers rows where they lie and gives them back. */
  async function apply(x: Float32Array, steering: RowSteering): Promise<Float32Array> {
    if (device === 'array') {
      const copy = x.slice()
      await steerRows(copy, steering)
      return copy
    }
    using tensor = await DeviceTensor.upload(x, [rows, width], { device })
    await steerRows(tensor, steering)
    return tensor.download()
  }

  it.each(steerings)('$operation follows its formula, on the rows of the mask', async (steering) => {
    const x = wave(rows * width, 0.9)
    const mask = Uint8Array.of(1, 0, 1, 1, 1)
    const found = await apply(x, { ...steering, mask })
    for (let row = 0; row < rows; row++) {
      const before = Array.from(x.subarray(row * width, (row + 1) * width))
      const wanted = mask[row] === 0 ? before : steered(before, steering)
      for (let i = 0; i < width; i++) expect(found[row * width + i]).toBeCloseTo(wanted[i]!, 5)
    }
  })

  it('groups of rows have vectors of their own', async () => {
    const x = wave(rows * width, 0.9)
    const group = Uint32Array.of(0, 1, 0, 1, 1)
    const found = await apply(x, {
      operation: 'add',
      vectors,
      groups: 2,
      group,
      amounts: Float32Array.of(1, 10),
    })
    for (let row = 0; row < rows; row++)
      for (let i = 0; i < width; i++)
        expect(found[row * width + i]).toBeCloseTo(
          x[row * width + i]! + (group[row] === 0 ? vectors[i]! : 10 * vectors[width + i]!),
          5,
        )
  })

  it('a plan’s step has its vector, amount and centre', async () => {
    const x = wave(rows * width, 0.9)
    const site = { hook: { point: 'resid_post', layer: 0 }, scale: 3, centre } as const
    const direction = { vector: Float32Array.of(0, 0, 2, 0, 0, 0), label: 'third' }
    const added = SteeringPlan.add(direction, site, { strength: 0.5 }).steps[0]!
    const clamped = SteeringPlan.clamp(direction, site, { strength: 0.5 }).steps[0]!
    const one = await apply(x, rowSteering(added))
    const two = await apply(x, rowSteering(clamped))
    for (let row = 0; row < rows; row++) {
      expect(one[row * width + 2]).toBeCloseTo(x[row * width + 2]! + 1.5, 5)
      expect(two[row * width + 2]).toBeCloseTo(centre[2]! + 1.5, 5)
      expect(one[row * width + 3]).toBe(x[row * width + 3])
    }
  })

  it('refuses the same with the same words', async () => {
    const x = wave(rows * width, 0.9)
    const code = 'ERR_INVALID_ARGUMENT'
    const skewed = vectors.map((value, i) => (i === 0 ? 0.7 : value))
    await expect(apply(x, { operation: 'ablate', vectors: skewed, dimensions: 2 })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(/product .* expected 1 \(unit length\)/),
    })
    await expect(apply(x, { operation: 'add', vectors, dimensions: 2 })).rejects.toThrow(/amounts/)
    await expect(
      apply(x, {
        operation: 'clamp',
        vectors,
        dimensions: 2,
        low: wave(2, 1).map(() => 2),
        high: wave(2, 1),
      }),
    ).rejects.toThrow(/clamp bounds/)
    await expect(
      apply(x, { operation: 'ablate', vectors, groups: 2, group: Uint32Array.of(0, 1, 2, 0, 0) }),
    ).rejects.toThrow(/row 2 is of group 2 of 2/)
    await expect(
      apply(x, { operation: 'add', vectors: vectors.map(() => NaN), dimensions: 2, amounts: wave(2, 1) }),
    ).rejects.toMatchObject({ code: 'ERR_NON_FINITE' })
    await expect(apply(x, { operation: 'add', vectors, dimensions: 5 })).rejects.toMatchObject({ code })
    await expect(apply(x, { operation: 'turn' as 'add', vectors, dimensions: 2 })).rejects.toThrow(
      /operation: found 'turn'/,
    )
    await expect(
      apply(x, { operation: 'project', vectors, dimensions: 2, mask: new Uint8Array(4) }),
    ).rejects.toThrow(/mask: found 4 values, expected 5/)
  })
})

describe.each(devices)('a tensor on %s', (device) => {
  it('is steered in a slice of its columns, and nowhere else', async () => {
    const x = wave(rows * (width + 4), 0.9)
    for (const steering of steerings) {
      using tensor = await DeviceTensor.upload(x, [rows, width + 4], { device })
      await steerRows(tensor.slice(1, 1, 1 + width), steering)
      const found = await tensor.download()
      const inner = new Float32Array(rows * width)
      for (let row = 0; row < rows; row++)
        inner.set(x.subarray(row * (width + 4) + 1, row * (width + 4) + 1 + width), row * width)
      await steerRows(inner, steering)
      for (let row = 0; row < rows; row++) {
        const at = row * (width + 4)
        // The same bits as the array's rows.
        expect(found.subarray(at + 1, at + 1 + width)).toEqual(inner.subarray(row * width, (row + 1) * width))
        for (const i of [0, width + 1, width + 2, width + 3]) expect(found[at + i]).toBe(x[at + i])
      }
    }
  })

  it('of 16 bits is refused', async () => {
    using tensor = await DeviceTensor.upload(new Uint16Array(width), [1, width], { device, dtype: 'BF16' })
    await expect(steerRows(tensor, steerings[0]!)).rejects.toThrow(/are BF16, expected F32/)
  })
})
