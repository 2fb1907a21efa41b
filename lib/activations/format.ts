/**
 * The layout of an activation store: a folder with `index.json` and shards `shard-00000.safetensors` …, each with
 *
 *   activations  F32 [rows, dModel]   the residual stream at the hook
 *   tokens       I32 [rows]           token id of each row
 *   position     U32 [rows]           position of that token in its sequence
 *   sequences    U32 [s]              numbers of the sequences that have rows here, rising
 *   offsets      U32 [s + 1]          rows offsets[i] … offsets[i + 1] − 1 belong to sequences[i]
 *
 * A sequence is never split over two shards. The index lists the shards with their sizes and SHA-256; it is
 * rewritten (beside and renamed) after each shard, so that it never names a shard that is not whole.
 */
import { z } from 'zod'

export const STORE_FORMAT = 'personascope-activations'
export const STORE_VERSION = 1
export const INDEX_FILE = 'index.json'

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
  dtype: z.literal('F32'),
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
