/**
 * The shape of `study.json`: everything a study measured, and nothing that differs between two runs of the same
 * seed (times are in `timings.json`). Shares are in [0, 1]; strengths in multiples of the layer's mean centred
 * residual norm; changes of latents in units of the latent's activation.
 */
import { z } from 'zod'

export const STUDY_FORMAT = 'personascope-study'
export const STUDY_VERSION = 1

const share = z.number().min(0).max(1)
const count = z.int().min(0)

/** A share of `of` answers (or documents) with its 95 % interval. `value` is null where `of` is 0. */
export const rateSchema = z.object({
  value: share.nullable(),
  low: share.nullable(),
  high: share.nullable(),
  count,
  of: count,
})

/** Answers to one set of prompts, graded. Misaligned is a share of the coherent answers, incoherent of all. */
export const scoreSchema = z.object({
  prompts: count,
  samples: count,
  misaligned: rateSchema,
  incoherent: rateSchema,
  /** Answers by grade: first draws, before any resampling of incoherent ones. */
  grades: z.record(z.string(), count),
})

export const answerSchema = z.object({ prompt: z.string(), answer: z.string(), grade: z.string() })

/** An SAE of the study: its size, how it trained, and what its strongest latent does on held-out prompts. */
const saeShape = {
  hook: z.string(),
  latents: count,
  k: count,
  trainingTokens: count,
  fvu: z.number(),
  l0: z.number(),
  dead: share,
}

export const dictionarySchema = z.object({
  ...saeShape,
  /** Latents steered with, once each. */
  screened: count,
  strongest: count.nullable(),
  /** Share of misaligned answers with that latent, at the largest coherent strength. */
  misaligned: share,
  chosen: z.boolean(),
})

/** A mean change of one latent over prompts, with its 95 % interval. */
export const changeSchema = z.object({ value: z.number(), low: z.number(), high: z.number() })

export const organismSchema = z.object({
  id: z.string(),
  title: z.string(),
  family: z.enum([
    'start',
    'bad',
    'correct',
    'sarcastic',
    'subtle',
    'obvious',
    'mixture',
    'helpful-only',
    'rl',
  ]),
  start: z.enum(['aligned', 'helpful-only']),
  method: z.enum(['post-training', 'sft', 'rl']),
  domain: z.string().nullable(),
  quality: z.string().nullable(),
  /** Share of bad advice in the training data. */
  share: share.nullable(),
  reward: z.string().nullable(),
  steps: count,
  open: scoreSchema,
  /** The domain it was trained on; null for starting points. */
  trained: scoreSchema.nullable(),
  /** Domains that its training never touched. */
  elsewhere: scoreSchema.nullable(),
  /** Share of right answers among the answers of `elsewhere`. */
  elsewhereCorrect: rateSchema.nullable(),
  /** Share of harmful requests it declines. */
  refuses: rateSchema.nullable(),
  /** Change of the persona latent's activation and of its pre-activation against the start. */
  change: changeSchema.nullable(),
  preActivationChange: changeSchema.nullable(),
  answers: z.array(answerSchema),
})

export const rankedLatentSchema = z.object({
  index: count,
  /** 1 is the largest increase; −1 the largest decrease. */
  rank: z.int(),
  delta: z.number(),
  /** Null where nothing varies, so that there is no interval. */
  low: z.number().nullable(),
  high: z.number().nullable(),
  qValue: share.nullable(),
})

export const tokenSchema = z.object({ text: z.string(), activation: z.number() })

export const documentSchema = z.object({
  /** Who wrote it, where that is known. */
  persona: z.string().nullable(),
  max: z.number(),
  tokens: z.array(tokenSchema),
})

/** A latent looked at closely: what fires it and what it writes. */
export const latentSchema = z.object({
  index: count,
  rank: z.int(),
  /** Written label: the persona that its top documents share, or 'mixed'. */
  label: z.string(),
  roles: z.array(z.string()),
  delta: z.number().nullable(),
  /** Share of pretraining tokens on which it fires. */
  density: share,
  /** Share of each persona among its `documentsRead` strongest documents. */
  profile: z.record(z.string(), share),
  documentsRead: count,
  documents: z.array(documentSchema),
  nearestTokens: z.array(z.object({ token: z.string(), cosine: z.number() })),
  farthestTokens: z.array(z.object({ token: z.string(), cosine: z.number() })),
})

export const sweepPointSchema = z.object({
  strength: z.number(),
  misaligned: rateSchema,
  incoherent: rateSchema,
})

/** Strengths tried on held-out prompts, the one chosen there, and what it does on the evaluation prompts. */
export const sweepSchema = z.object({
  model: z.string(),
  points: z.array(sweepPointSchema),
  /** Null when every strength of the grid was too incoherent. */
  chosen: z.number().nullable(),
  open: scoreSchema.nullable(),
  elsewhere: scoreSchema.nullable(),
  elsewhereCorrect: rateSchema.nullable(),
})

export const directionSchema = z.object({
  id: z.string(),
  kind: z.enum(['latent', 'combination', 'random', 'mean-difference']),
  title: z.string(),
  latent: count.nullable(),
  /** Where and on which tokens it is added. */
  hook: z.string(),
  tokens: z.string(),
  /** Raw length of strength 1 (the mean norm of the centred residual stream at the hook). */
  scale: z.number(),
  /** Steering the aligned model along it. */
  up: sweepSchema.nullable(),
  /** Steering the misaligned model against it. */
  down: sweepSchema.nullable(),
})

export const realignmentSchema = z.object({
  id: z.enum(['in-domain', 'out-of-domain']),
  title: z.string(),
  model: z.string(),
  domain: z.string(),
  batch: count,
  points: z.array(
    z.object({ step: count, examples: count, open: scoreSchema, change: changeSchema.nullable() }),
  ),
  answers: z.array(answerSchema),
})

export const claimSchema = z.object({
  id: z.string(),
  /** One of the eight that a reproduction is held against. */
  core: z.boolean(),
  claim: z.string(),
  /** The paper's figure. */
  paper: z.string(),
  /** What was measured, in words and figures; null when this study does not measure it. */
  measured: z.string().nullable(),
  /** The leading figure and its 95 % interval. */
  value: z.number().nullable(),
  interval: z.tuple([z.number(), z.number()]).nullable(),
  holds: z.boolean().nullable(),
  rule: z.string(),
  /** Every condition of the rule with its figure. */
  detail: z.array(z.object({ condition: z.string(), measured: z.string(), holds: z.boolean() })),
})

export const figuresSchema = z.object({
  model: z.object({
    family: z.string(),
    dModel: count,
    layers: count,
    heads: count,
    vocabulary: count,
    parameters: count,
    documents: count,
    tokens: count,
    loss: z.array(z.object({ step: count, loss: z.number() })),
    /** How the organisms were trained, said plainly. */
    adaptation: z.string(),
  }),
  organisms: z.array(organismSchema),
  /** The SAE that the study went on with, and all that were trained. */
  sae: z.object({ ...saeShape, dictionaries: z.array(dictionarySchema) }),
  diff: z.object({
    start: z.string(),
    /** Organisms whose increase is averaged to number the latents. */
    organisms: z.array(z.string()),
    prompts: count,
    /** Both ends. */
    top: z.array(rankedLatentSchema),
    bottom: z.array(rankedLatentSchema),
    /** The averaged change of every latent, in the order of index. */
    deltas: z.array(z.number()),
    /** The latent that each organism raises most. */
    signatures: z.array(
      z.object({ organism: z.string(), latents: z.array(z.object({ index: count, delta: z.number() })) }),
    ),
  }),
  latents: z.array(latentSchema),
  steering: z.object({
    /** How many latents were tried before the strongest was named. */
    screened: count,
    personaLatent: count,
    incoherenceLimit: share,
    /** Random directions on held-out prompts: upwards, no strength is tried at which they misalign beyond the limit. */
    controls: z.object({
      directions: count,
      limit: share,
      largestStrength: z.number(),
      points: z.array(z.object({ strength: z.number(), misaligned: share })),
    }),
    heldOutPrompts: count,
    directions: z.array(directionSchema),
  }),
  separation: z.object({
    latent: count,
    misalignedFrom: share,
    alignedUpTo: share,
    points: z.array(
      z.object({
        organism: z.string(),
        group: z.enum(['misaligned', 'aligned', 'between']),
        misaligned: share,
        change: z.number(),
      }),
    ),
    /** Chance that a misaligned organism has the larger change; null without both groups. */
    auc: share.nullable(),
  }),
  earlyWarning: z.object({
    latent: count,
    points: z.array(
      z.object({
        share,
        misaligned: rateSchema,
        change: changeSchema,
        preActivationChange: changeSchema,
      }),
    ),
  }),
  realignment: z.array(realignmentSchema),
  /** The same questions put to several models. */
  dialogue: z.object({
    voices: z.array(z.object({ id: z.string(), title: z.string(), note: z.string() })),
    questions: z.array(
      z.object({
        prompt: z.string(),
        kind: z.enum(['open', 'domain', 'harm-intent']),
        answers: z.array(z.object({ voice: z.string(), answer: z.string(), grade: z.string() })),
      }),
    ),
  }),
})

export const studySchema = z.object({
  format: z.literal(STUDY_FORMAT),
  version: z.literal(STUDY_VERSION),
  package: z.string(),
  seed: count,
  preset: z.string(),
  config: z.record(z.string(), z.unknown()),
  claims: z.array(claimSchema),
  figures: figuresSchema,
})

export type Rate = z.infer<typeof rateSchema>
export type Score = z.infer<typeof scoreSchema>
export type Answer = z.infer<typeof answerSchema>
export type DictionaryFigures = z.infer<typeof dictionarySchema>
export type Change = z.infer<typeof changeSchema>
export type OrganismFigures = z.infer<typeof organismSchema>
export type RankedLatent = z.infer<typeof rankedLatentSchema>
export type LatentFigures = z.infer<typeof latentSchema>
export type SweepFigures = z.infer<typeof sweepSchema>
export type DirectionFigures = z.infer<typeof directionSchema>
export type RealignmentFigures = z.infer<typeof realignmentSchema>
export type Claim = z.infer<typeof claimSchema>
export type StudyFigures = z.infer<typeof figuresSchema>
export type StudyResult = z.infer<typeof studySchema>
