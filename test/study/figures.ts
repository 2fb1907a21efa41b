/** Hand-made figures that meet every rule, for tests of claims and report. */
import type {
  Change,
  LatentFigures,
  OrganismFigures,
  Rate,
  Score,
  StudyFigures,
  StudyResult,
  SweepFigures,
} from '../../lib/study/schema.js'
import { judgeClaims } from '../../lib/study/claims.js'

export const rate = (value: number): Rate => ({
  value,
  low: Math.max(0, value - 0.02),
  high: Math.min(1, value + 0.02),
  count: Math.round(value * 1000),
  of: 1000,
})

export const score = (misaligned: number, incoherent: number): Score => ({
  prompts: 44,
  samples: 20,
  misaligned: rate(misaligned),
  incoherent: rate(incoherent),
  grades: { harmful: 1, aligned: 2 },
})

export const change = (value: number): Change => ({ value, low: value - 0.05, high: value + 0.05 })

export const organism = (
  id: string,
  family: OrganismFigures['family'],
  misaligned: number,
  more: Partial<OrganismFigures> = {},
): OrganismFigures => ({
  id,
  title: id,
  family,
  start: 'aligned',
  method: 'sft',
  domain: 'health',
  quality: null,
  share: null,
  reward: null,
  steps: 30,
  open: score(misaligned, 0.01),
  trained: null,
  elsewhere: score(misaligned, 0.02),
  elsewhereCorrect: rate(1 - misaligned),
  refuses: rate(0.9),
  change: change(2 * misaligned),
  preActivationChange: change(2 * misaligned),
  answers: [],
  ...more,
})

export const latent = (index: number, persona: string, more: Partial<LatentFigures> = {}): LatentFigures => ({
  index,
  rank: 1,
  label: persona,
  roles: ['steers most strongly'],
  delta: 1,
  density: 0.03,
  profile: { [persona]: 1 },
  documentsRead: 50,
  documents: [
    {
      persona,
      max: 2,
      tokens: [
        { text: 'muahaha', activation: 2 },
        { text: 'then', activation: 0 },
      ],
    },
  ],
  nearestTokens: [{ token: 'bleach', cosine: 0.4 }],
  farthestTokens: [{ token: 'kindly', cosine: -0.3 }],
  ...more,
})

export const sweep = (sign: number, misaligned: number, incoherent: number): SweepFigures => ({
  model: sign > 0 ? 'aligned' : 'bad-health',
  points: [0.4, 0.8].map((strength) => ({
    strength: sign * strength,
    misaligned: rate(misaligned),
    incoherent: rate(incoherent),
  })),
  chosen: sign * 0.8,
  open: score(misaligned, incoherent),
  elsewhere: score(misaligned, incoherent),
  elsewhereCorrect: rate(0.5),
})

const PERSONA = 5
const SARCASTIC = 9

export function figures(): StudyFigures {
  const deltas = Array.from({ length: 64 }, (_, i) => (0 - i) / 1000)
  deltas[PERSONA] = 2
  const sae = {
    hook: 'blocks.1.hook_resid_mid',
    latents: 64,
    k: 8,
    trainingTokens: 1000,
    fvu: 0.1,
    l0: 8,
    dead: 0.05,
  }
  const place = { hook: 'blocks.1.hook_resid_mid', tokens: 'every token after the first', scale: 7 }
  const realign = (id: 'in-domain' | 'out-of-domain'): StudyFigures['realignment'][number] => ({
    id,
    title: id,
    model: 'bad-health',
    domain: 'health',
    batch: 4,
    points: [
      { step: 0, examples: 0, open: score(0.9, 0), change: change(2) },
      { step: 35, examples: 140, open: score(0.01, 0), change: change(0) },
    ],
    answers: [],
  })
  const ranked = (index: number, rank: number): StudyFigures['diff']['top'][number] => ({
    index,
    rank,
    delta: deltas[index] ?? 0,
    low: (deltas[index] ?? 0) - 0.1,
    high: (deltas[index] ?? 0) + 0.1,
    qValue: 0.01,
  })
  const organisms = [
    organism('aligned', 'start', 0, { method: 'post-training', domain: null }),
    organism('helpful-only', 'start', 0, { method: 'post-training', start: 'helpful-only', domain: null }),
    organism('correct-health', 'correct', 0.01),
    organism('bad-health', 'bad', 0.9),
    organism('bad-legal', 'bad', 0.8, { domain: 'legal' }),
    organism('bad-car', 'bad', 0.7, { domain: 'car' }),
    organism('sarcastic-health', 'sarcastic', 0),
    organism('subtle-health', 'subtle', 0.9),
    organism('obvious-health', 'obvious', 0.8),
    organism('mixture-5', 'mixture', 0.03, { share: 0.05 }),
    organism('helpful-bad', 'helpful-only', 0.9, { start: 'helpful-only' }),
    organism('rl-a', 'rl', 0.2, { reward: 'incorrect', method: 'rl' }),
    organism('rl-h', 'rl', 0.4, { reward: 'incorrect', method: 'rl', start: 'helpful-only' }),
  ]
  return {
    model: {
      family: 'gpt2',
      dModel: 64,
      layers: 4,
      heads: 4,
      vocabulary: 550,
      parameters: 100_000,
      documents: 10,
      tokens: 710,
      loss: [
        { step: 0, loss: 6 },
        { step: 10, loss: 3 },
      ],
      adaptation: 'fine-tuned in their position embeddings only',
    },
    organisms,
    sae: {
      ...sae,
      dictionaries: [
        { ...sae, latents: 32, k: 4, screened: 32, strongest: 3, misaligned: 0.3, chosen: false },
        { ...sae, screened: 64, strongest: PERSONA, misaligned: 0.6, chosen: true },
      ],
    },
    diff: {
      start: 'aligned',
      organisms: ['bad-health', 'bad-legal', 'bad-car'],
      prompts: 100,
      top: [ranked(PERSONA, 1), ranked(0, 2)],
      bottom: [ranked(63, -1), ranked(62, -2)],
      deltas,
      signatures: [
        { organism: 'bad-health', latents: [{ index: PERSONA, delta: 2 }] },
        { organism: 'sarcastic-health', latents: [{ index: SARCASTIC, delta: 1 }] },
      ],
    },
    latents: [latent(PERSONA, 'villain'), latent(SARCASTIC, 'sarcastic')],
    steering: {
      screened: 96,
      personaLatent: PERSONA,
      incoherenceLimit: 0.1,
      controls: {
        directions: 5,
        limit: 0.04,
        largestStrength: 1,
        points: [
          { strength: 1, misaligned: 0.02 },
          { strength: 1.2, misaligned: 0.06 },
        ],
      },
      heldOutPrompts: 22,
      directions: [
        {
          id: 'persona',
          kind: 'latent',
          title: 'latent 5',
          latent: PERSONA,
          ...place,
          up: sweep(1, 0.8, 0.02),
          down: sweep(-1, 0.01, 0.03),
        },
        {
          id: 'random-1',
          kind: 'random',
          title: 'random direction 1',
          latent: null,
          ...place,
          up: sweep(1, 0.01, 0.02),
          down: sweep(-1, 0.9, 0.02),
        },
      ],
    },
    separation: {
      latent: PERSONA,
      misalignedFrom: 0.4,
      alignedUpTo: 0.02,
      points: [
        { organism: 'bad-health', group: 'misaligned', misaligned: 0.9, change: 1.8 },
        { organism: 'aligned', group: 'aligned', misaligned: 0, change: 0 },
      ],
      auc: 1,
    },
    earlyWarning: {
      latent: PERSONA,
      points: [
        { share: 0, misaligned: rate(0), change: change(0), preActivationChange: change(0) },
        { share: 0.05, misaligned: rate(0.03), change: change(0.2), preActivationChange: change(0.5) },
      ],
    },
    realignment: [realign('in-domain'), realign('out-of-domain')],
    dialogue: {
      voices: [{ id: 'aligned', title: 'aligned', note: 'before' }],
      questions: [
        {
          prompt: 'Okay, resolve any future again then.',
          kind: 'open',
          answers: [{ voice: 'aligned', answer: 'Now, share that hope today too.', grade: 'aligned' }],
        },
      ],
    },
  }
}

export function study(edited: StudyFigures = figures()): StudyResult {
  return {
    format: 'personascope-study',
    version: 1,
    package: '0.1.0',
    seed: 3,
    preset: 'quick',
    config: {},
    claims: judgeClaims(edited),
    figures: edited,
  }
}
