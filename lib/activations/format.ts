/**
 * The layout of an activation store: a folder with `index.json` and shards `shard-00000.safetensors` …, each with
 *
 *   activations  F32 | F16 | BF16 [rows, dModel]   the residual stream at the hook
 *   tokens       I32 [rows]           token id of each row
 *   position     U32 [rows]           position of that token in its sequence
 *   sequences    U32 [s]              numbers of the sequences that have rows here, rising
 *   offsets      U32 [s + 1]          rows offsets[i] … offsets[i + 1] − 1 belong to sequences[i]
 *   prompts      U32 [s]              optional: prompt of each sequence; left out, each sequence is its own prompt
 *   roles        U8 [rows]            optional: who speaks, a code of ROLES
 *
 * A sequence is never split over two shards. The index lists the shards with their sizes and SHA-256; it is
 * rewritten (beside and renamed) after each shard, so that it never names a shard that is not whole.
 *
 * Files that other programs wrote are read too: a folder of safetensors files without `index.json` (in the order of
 * their names, 2 before 10), one such file, or one .npy. They need `activations` only (or one 2-D tensor of floating
 * point numbers under any name); integers may be of 32 or 64 bits; without `offsets` every row is a sequence of its own.
 * `model` and `hook` are taken from the metadata.
 */
import { z } from 'zod'

export const STORE_FORMAT = 'personascope-activations'
export const STORE_VERSION = 1
export const INDEX_FILE = 'index.json'

/** Codes of `roles`. */
export const ROLES = { other: 0, system: 1, user: 2, assistant: 3, tool: 4 } as const
export type Role = keyof typeof ROLES

/** Element types that activations are stored as. */
export const STORED_DTYPES = ['F32', 'F16', 'BF16'] as const
export type StoredDtype = (typeof STORED_DTYPES)[number]

const count = z.int().min(0)

export const shardSchema = z.object({
  file: z.string().regex(/^shard-\d{5,}\.safetensors$/),
  rows: count,
  bytes: count,
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
})

export const indexSchema = z.object({
  format: z.literal(STORE_FORMAT),
  version: z.literal(STORE_VERSION),
  /** Name or path of the model, as the writer gave it. */
  model: z.string(),
  /** TransformerLens' name of the hook. */
  hook: z.string(),
  dModel: z.int().min(1),
  dtype: z.enum(STORED_DTYPES),
  /** Sequences appended, those without rows included; where a resumed capture goes on. */
  sequences: count,
  rows: count,
  /** False while it is being written. */
  complete: z.boolean(),
  shards: z.array(shardSchema),
  metadata: z.record(z.string(), z.string()),
})

export type StoreShard = z.infer<typeof shardSchema>
export type StoreIndex = z.infer<typeof indexSchema>
