import { mkdtemp, readFile, readdir, rename, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { Random } from '../../lib/core/random.js'
import { setIsa, setThreads } from '../../lib/core/runtime.js'
import { SafetensorsFile, writeSafetensors } from '../../lib/io/safetensors.js'
import { native } from '../../lib/native.js'
import { SparseCodes } from '../../lib/sae/codes.js'
import { Sae } from '../../lib/sae/sae.js'
import { DECODER_NORMS } from '../../lib/sae/spec.js'
import { distance } from '../support/close.js'

const dModel = 13
const latents = 37
const k = 5

function normal(count: number, seed: number): Float32Array {
  const random = new Random(seed)
  return Float32Array.from({ length: count }, () => random.gaussian())
}

function example(): Sae {
  return Sae.fromWeights({
    dModel,
    latents,
    k,
    wEnc: normal(latents * dModel, 1),
    wDec: normal(latents * dModel, 2),
    bEnc: normal(latents, 3),
    bDec: normal(dModel, 4),
    metadata: { modelName: 'tiny', hook: { point: 'resid_mid', layer: 1 } },
  })
}

/** The definition, in float64. */
function plain(sae: Sae, x: Float32Array): { latent: number; value: number }[] {
  const bDec = sae.decoderBias()
  const bEnc = sae.encoderBias()
  const found = Array.from({ length: sae.latents }, (_, latent) => {
    const row = sae.encoderVector(latent)
    let value = bEnc[latent]!
    for (let i = 0; i < sae.dModel; i++)
      value += row[i]! * (sae.subtractDecoderBias ? x[i]! - bDec[i]! : x[i]!)
    return { latent, value }
  })
  return found
    .filter(({ value }) => value > 0)
    .toSorted((a, b) => b.value - a.value || a.latent - b.latent)
    .slice(0, sae.k)
}

let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sae-'))
})

describe('codes', () => {
  test('are the k largest positive pre-activations', async () => {
    const sae = example()
    const x = normal(50 * dModel, 9)
    const codes = await sae.encode(x)
    expect(codes.rows).toBe(50)
    for (let row = 0; row < 50; row++) {
      const wanted = plain(sae, x.subarray(row * dModel, (row + 1) * dModel))
      const { indices, values } = codes.row(row)
      expect([...indices]).toEqual(wanted.map(({ latent }) => latent))
      for (const [i, { value }] of wanted.entries()) expect(values[i]).toBeCloseTo(value, 4)
    }
    expect(codes.value(3, codes.row(3).indices[0]!)).toBe(codes.row(3).values[0])
    expect(() => codes.row(50)).toThrow(/50 rows/)
  })

  test('are the same bits for any threads, instruction set and batch split', async () => {
    const sae = example()
    const x = normal(70 * dModel, 10)
    const { isa, threads } = native.runtimeInfo()
    const whole = await sae.encode(x)
    try {
      for (const [set, count] of [
        ['reference', 1],
        [isa, 1],
        [isa, 3],
      ] as const) {
        setIsa(set)
        setThreads(count)
        expect(await sae.encode(x)).toEqual(whole)
      }
      const first = await sae.encode(x.subarray(0, 9 * dModel))
      expect(whole.values.subarray(0, first.values.length)).toEqual(first.values)
    } finally {
      setIsa(isa)
      setThreads(threads)
    }
  })

  test('decode to Σ value · decoder vector + b_dec', async () => {
    const sae = example()
    const x = normal(6 * dModel, 11)
    const codes = await sae.encode(x)
    const out = await sae.decode(codes)
    for (let row = 0; row < 6; row++) {
      const wanted = Float64Array.from(sae.decoderBias())
      const { indices, values } = codes.row(row)
      for (const [i, latent] of indices.entries())
        for (const [j, weight] of sae.decoderVector(latent).entries()) wanted[j]! += values[i]! * weight
      for (let j = 0; j < dModel; j++) expect(out[row * dModel + j]).toBeCloseTo(wanted[j]!, 4)
    }
    const broken = new SparseCodes(latents, {
      indices: Uint32Array.of(latents),
      values: Float32Array.of(1),
      offsets: Uint32Array.of(0, 1),
    })
    await expect(sae.decode(broken)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    const lying = new SparseCodes(latents, { ...codes, offsets: Uint32Array.of(0, 1 << 30) })
    await expect(sae.decode(lying)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
  })

  test('pre-activations are signed and agree with the codes', async () => {
    const sae = example()
    const x = normal(4 * dModel, 12)
    const codes = await sae.encode(x)
    const all = await sae.preActivations(
      x,
      Uint32Array.from({ length: latents }, (_, i) => i),
    )
    expect(all.some((value) => value < 0)).toBe(true)
    for (let row = 0; row < 4; row++) {
      const { indices, values } = codes.row(row)
      for (const [i, latent] of indices.entries()) expect(all[row * latents + latent]).toBe(values[i])
    }
    await expect(sae.preActivations(x, [latents])).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
  })
})

describe('bad input', () => {
  test('NaN is located', async () => {
    const x = normal(20 * dModel, 1)
    x[7 * dModel + 3] = Number.NaN
    await expect(example().encode(x)).rejects.toMatchObject({
      code: 'ERR_NON_FINITE',
      message: expect.stringMatching(/row 7.*dimension 3/),
    })
  })
  test('sizes', async () => {
    await expect(example().encode(new Float32Array(dModel + 1))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
    await expect(example().encode(new Float64Array(dModel) as unknown as Float32Array)).rejects.toMatchObject(
      {
        code: 'ERR_INVALID_ARGUMENT',
      },
    )
    expect((await example().encode(new Float32Array(0))).rows).toBe(0)
    expect(() => example().decoderVector(latents)).toThrow(/expected a whole number from 0 to 36/)
    expect(() =>
      Sae.fromWeights({
        dModel: 2,
        latents: 3,
        k: 4,
        wEnc: new Float32Array(6),
        wDec: new Float32Array(6),
        bEnc: new Float32Array(3),
        bDec: new Float32Array(2),
      }),
    ).toThrow(/k: found 4/)
  })
  test('an aborted call rejects', async () => {
    await expect(example().encode(normal(dModel, 1), { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    })
  })
})

describe('files in SAELens layout', () => {
  test('save and load give the same bits', async () => {
    const sae = example()
    await sae.save(join(folder, 'deep', 'sae'))
    expect((await readdir(join(folder, 'deep', 'sae'))).toSorted()).toEqual([
      'cfg.json',
      'sae_weights.safetensors',
    ])
    const loaded = await Sae.load(join(folder, 'deep', 'sae'))
    const x = normal(30 * dModel, 5)
    expect(await loaded.encode(x)).toEqual(await sae.encode(x))
    expect(await loaded.decode(await loaded.encode(x))).toEqual(await sae.decode(await sae.encode(x)))
    expect(loaded.metadata).toEqual({ ...sae.metadata })
    expect(loaded.metadata.hook).toEqual({ point: 'resid_mid', layer: 1 })
    const file = SafetensorsFile.open(join(folder, 'deep', 'sae', 'sae_weights.safetensors'))
    expect(file.require('W_enc').shape).toEqual([dModel, latents])
    const wEnc = await file.f32('W_enc')
    expect(wEnc[3 * latents + 8]).toBe(sae.encoderVector(8)[3])
    const config = JSON.parse(await readFile(join(folder, 'deep', 'sae', 'cfg.json'), 'utf8'))
    expect(config).toMatchObject({ architecture: 'topk', d_in: dModel, d_sae: latents, k })
    expect(config.metadata.hook_name).toBe('blocks.1.hook_resid_mid')
  })

  test('what lay in the folder before says nothing of the SAE that is saved there', async () => {
    await writeFile(join(folder, 'activation_scaler.json'), JSON.stringify({ scaling_factor: 0.25 }))
    const sae = example()
    await sae.save(folder)
    const x = normal(9 * dModel, 5)
    expect((await (await Sae.load(folder)).encode(x)).values).toEqual((await sae.encode(x)).values)
  })

  test('weights that are not finite are not saved; the place is told', async () => {
    await example().save(folder)
    const file = join(folder, 'sae_weights.safetensors')
    const bytes = await readFile(file)
    bytes.writeFloatLE(Number.NaN, SafetensorsFile.open(file).require('W_dec').begin + 4 * (2 * dModel + 3))
    await writeFile(join(folder, 'new'), bytes)
    await rename(join(folder, 'new'), file)
    const damaged = await Sae.load(folder)
    await expect(damaged.save(join(folder, 'other'))).rejects.toMatchObject({
      code: 'ERR_NON_FINITE',
      message: expect.stringMatching(/W_dec.*NaN in latent 2.*dimension 3/),
    })
    expect(await readdir(join(folder, 'other'))).toEqual([])
  })

  async function write(config: object, change: { k?: number; scaling?: number } = {}): Promise<Sae> {
    const wDec = normal(latents * dModel, 2)
    await writeFile(join(folder, 'cfg.json'), JSON.stringify(config))
    await writeSafetensors(join(folder, 'sae_weights.safetensors'), [
      { name: 'W_enc', dtype: 'F32', shape: [dModel, latents], data: normal(latents * dModel, 1) },
      { name: 'W_dec', dtype: 'F32', shape: [latents, dModel], data: wDec },
      { name: 'b_enc', dtype: 'F32', shape: [latents], data: normal(latents, 3) },
      { name: 'b_dec', dtype: 'F32', shape: [dModel], data: normal(dModel, 4) },
      ...(change.scaling === undefined
        ? []
        : [
            {
              name: 'scaling_factor',
              dtype: 'F32' as const,
              shape: [latents],
              data: new Float32Array(latents).fill(change.scaling),
            },
          ]),
    ])
    return Sae.load(folder)
  }
  const modern = { architecture: 'topk', d_in: dModel, d_sae: latents, k, metadata: { model_name: 'm' } }

  test('the flat configuration before version 6', async () => {
    const sae = await write(
      {
        d_in: dModel,
        d_sae: latents,
        activation_fn_str: 'topk',
        activation_fn_kwargs: { k: 3 },
        hook_point: 'blocks.2.hook_resid_post',
        normalize_activations: false,
      },
      { scaling: 1 },
    )
    expect(sae.k).toBe(3)
    expect(sae.subtractDecoderBias).toBe(true)
    expect(sae.metadata.hook).toEqual({ point: 'resid_post', layer: 2 })
  })

  test('apply_b_dec_to_input decides whether b_dec is subtracted', async () => {
    const x = normal(5 * dModel, 8)
    const sae = await write({ ...modern, apply_b_dec_to_input: false })
    expect(sae.subtractDecoderBias).toBe(false)
    const codes = await sae.encode(x)
    for (let row = 0; row < 5; row++)
      expect([...codes.row(row).indices]).toEqual(
        plain(sae, x.subarray(row * dModel, (row + 1) * dModel)).map(({ latent }) => latent),
      )
  })

  test('decoder norms are folded where selection uses them', async () => {
    const x = normal(9 * dModel, 8)
    const raw = await write(modern)
    const sae = await write({ ...modern, rescale_acts_by_decoder_norm: true })
    const codes = await sae.encode(x)
    const norms = Array.from({ length: latents }, (_, l) => Math.hypot(...raw.decoderVector(l)))
    const all = await raw.preActivations(
      x,
      Array.from({ length: latents }, (_, l) => l),
    )
    for (let row = 0; row < 9; row++) {
      const wanted = norms
        .map((norm, latent) => ({ latent, value: all[row * latents + latent]! * norm }))
        .filter(({ value }) => value > 0)
        .toSorted((a, b) => b.value - a.value)
        .slice(0, k)
      expect([...codes.row(row).indices]).toEqual(wanted.map(({ latent }) => latent))
      // decoding unit vectors by rescaled values is decoding the raw ones
      const back = await sae.decode(codes)
      const plainBack = Float64Array.from(raw.decoderBias())
      for (const { latent } of wanted)
        for (const [i, weight] of raw.decoderVector(latent).entries())
          plainBack[i]! += all[row * latents + latent]! * weight
      for (let i = 0; i < dModel; i++) expect(back[row * dModel + i]).toBeCloseTo(plainBack[i]!, 3)
    }
  })

  test('decoder norms are read when something is encoded, and are the bits of a given scale', async () => {
    const x = normal(9 * dModel, 8)
    const flagged = await write({ ...modern, rescale_acts_by_decoder_norm: true })
    const wDec = Float32Array.from({ length: latents }, (_, l) => l).reduce<number[]>(
      (all, l) => all.concat(...flagged.decoderVector(l)),
      [],
    )
    const selectionScale = Float32Array.from({ length: latents }, (_, l) =>
      Math.sqrt(wDec.slice(l * dModel, (l + 1) * dModel).reduce((sum, value) => sum + value * value, 0)),
    )
    const rule = { selection: { rule: 'threshold', threshold: 0 }, scaledCodes: true } as const
    const spec = {
      ...flagged.spec,
      ...rule,
      wEnc: Float32Array.from(
        Array.from({ length: latents }, (_, l) => [...flagged.encoderVector(l)]).flat(),
      ),
      wDec: Float32Array.from(wDec),
      bEnc: flagged.encoderBias(),
      bDec: flagged.decoderBias(),
    }
    // Codes of another SAE are divided by the norms too, whether or not it has encoded something.
    const [lazy, given] = await Promise.all(
      [DECODER_NORMS, selectionScale].map((scale) => Sae.fromSpec({ ...spec, selectionScale: scale })),
    )
    for (const scale of [
      { joined: 0, added: 0 },
      { joined: -1, added: 2 },
      { joined: Number.NaN, added: 1 },
    ])
      await expect(Sae.fromSpec({ ...spec, selectionScale: scale })).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
        message: expect.stringMatching(/selectionScale/),
      })
    const layered = { ...spec, layers: dModel, selectionScale: { joined: 0, added: 1 } }
    await expect(Sae.fromSpec(layered)).rejects.toThrow(/decoder that lies in a file/)
    const wanted = await given!.encode(x)
    expect(await lazy!.decode(wanted)).toEqual(await given!.decode(wanted))
    expect((await lazy!.encode(x)).values).toEqual(wanted.values)
    expect((await lazy!.encode(x)).indices).toEqual(wanted.indices)
    for (const [name, sae] of [
      ['lazy', lazy!],
      ['given', given!],
    ] as const)
      await sae.save(join(folder, name))
    expect(await readFile(join(folder, 'lazy', 'sae_weights.safetensors'))).toEqual(
      await readFile(join(folder, 'given', 'sae_weights.safetensors')),
    )

    // Of a top-k SAE only the norms themselves are a flag; what else scales it is folded into the weights.
    const topk = { ...spec, selection: { rule: 'topk', k }, architecture: 'topk' } as const
    for (const [name, scale] of [
      ['norms', DECODER_NORMS],
      ['half', { joined: 0.5, added: 0 }],
      ['more', { joined: 0.5, added: 0.75 }],
      ['array', selectionScale.map((value, l) => value * (1 + (l % 3)))],
    ] as const) {
      const made = await Sae.fromSpec({ ...topk, selectionScale: scale })
      await made.save(join(folder, name))
      const again = await Sae.load(join(folder, name))
      const wantedScale = name === 'norms' ? DECODER_NORMS : undefined
      expect([name, again.spec.selectionScale]).toEqual([name, wantedScale])
      const [codes, saved] = [await made.encode(x), await again.encode(x)]
      expect([name, saved.indices]).toEqual([name, codes.indices])
      expect(distance(saved.values, codes.values)).toBeLessThan(1e-5)
      expect(distance(await again.decode(saved), await made.decode(codes))).toBeLessThan(1e-5)
    }

    // What cannot be a norm is told then, and opening does not look for it.
    const file = join(folder, 'sae_weights.safetensors')
    const bytes = await readFile(file)
    const { begin } = SafetensorsFile.open(file).require('W_dec')
    bytes.writeFloatLE(Number.NaN, begin + 4 * (3 * dModel + 1))
    await writeFile(join(folder, 'new'), bytes)
    await rename(join(folder, 'new'), file)
    const damaged = await Sae.load(folder)
    expect(damaged.decoderVector(2)).toEqual(flagged.decoderVector(2))
    await expect(damaged.encode(x)).rejects.toMatchObject({
      code: 'ERR_NON_FINITE',
      message: expect.stringMatching(/W_dec of .*: the decoder vector of latent 3 has norm -?nan/),
    })
  })

  test.each([
    [
      'another architecture',
      { ...modern, architecture: 'temporal' },
      /cfg\.json: architecture is 'temporal'/,
    ],
    ['an unknown normalisation', { ...modern, normalize_activations: 'x' }, /normalize_activations/],
    ['reshaping', { ...modern, reshape_activations: 'x' }, /reshape_activations/],
    ['k above the latents', { ...modern, k: latents + 1 }, /k is '38'/],
    ['no k', { architecture: 'topk', d_in: dModel, d_sae: latents }, /k is missing/],
    ['wrong shape', { ...modern, d_sae: latents + 1 }, /W_dec.*\[37, 13\].*\[38, 13\]/],
    ['not an object', [], /cfg\.json/],
  ])('%s is refused with the file and the field', async (_, config, message) => {
    await expect(write(config)).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringMatching(message),
    })
  })
  test('a scaling factor that is not one', async () => {
    await expect(write(modern, { scaling: 2 })).rejects.toMatchObject({ code: 'ERR_FORMAT' })
  })
  test('missing files', async () => {
    await expect(Sae.load(join(folder, 'nowhere'))).rejects.toMatchObject({
      code: 'ERR_NOT_FOUND',
      message: expect.stringContaining('nowhere'),
    })
    await writeFile(join(folder, 'cfg.json'), JSON.stringify(modern))
    await expect(Sae.load(folder)).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringContaining('SAELens: no sae_weights.safetensors'),
    })
  })
  test('NaN in weights is located, with the file', async () => {
    const bias = normal(latents, 3)
    bias[5] = Number.NaN
    await write(modern)
    await writeSafetensors(join(folder, 'sae_weights.safetensors'), [
      { name: 'W_enc', dtype: 'F32', shape: [dModel, latents], data: normal(latents * dModel, 1) },
      { name: 'W_dec', dtype: 'F32', shape: [latents, dModel], data: normal(latents * dModel, 2) },
      { name: 'b_enc', dtype: 'F32', shape: [latents], data: bias },
      { name: 'b_dec', dtype: 'F32', shape: [dModel], data: normal(dModel, 4) },
    ])
    await expect(Sae.load(folder)).rejects.toMatchObject({
      code: 'ERR_NON_FINITE',
      message: expect.stringMatching(/b_enc: NaN/),
    })
  })
})
