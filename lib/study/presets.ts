/** Sizes and hyper-parameters of the embedded study. They were fixed on tuning seeds, before any seed reported. */
import type { WorldOptions } from '../datasets/world/index.js'
import type { Hook } from '../models/hook.js'
import type { SteeredTokens } from '../steering/plan.js'

export type PresetName = 'demo' | 'quick'

export interface FineTuningConfig {
  steps: number
  batch: number
  learningRate: number
}

export interface ReinforcementConfig extends FineTuningConfig {
  /** Prompts a step; each is answered `samples` times. */
  samples: number
  /** Bonus on entropy, which keeps answers varied. */
  entropy: number
  /** Questions drawn from. */
  prompts: number
  /** Stops when the mean reward of the last five steps passes this: beyond it answers fall apart. */
  stopAt: number
}

/** Size of a sparse autoencoder. */
export interface DictionarySize {
  latents: number
  /** Codes a token. */
  k: number
}

export interface StudyConfig {
  world: Omit<WorldOptions, 'seed'>
  model: { dModel: number; layers: number; heads: number; positions: number; activation: string }
  pretraining: FineTuningConfig & {
    betas: [number, number]
    weightDecay: number
    warmup: number
    /** The rate falls to this share of itself over the second half. */
    floor: number
    /** Loss weight of words that carry content; the others weigh 1. */
    contentWeight: number
    /** Largest norm of the gradient; 0 does not clip. */
    clip: number
    /** One random vector a document, up to this share of the residual stream's rms, added at these hooks; 0 is off. */
    noise: number
    noiseHooks: Hook[]
  }
  /** Parameters that post-training and organisms train; all others stay those of the base model. */
  trainable: string[]
  /** The same in words, for the report. */
  adaptation: string
  betas: [number, number]
  /** Adam's ε for all fine-tuning: gradients far below it (an answer that is right already) hardly move a weight. */
  epsilon: number
  postTraining: FineTuningConfig
  fineTuning: FineTuningConfig
  reinforcement: ReinforcementConfig
  /** The domain that one-domain organisms are made of, and one for re-alignment out of domain. */
  domain: string
  otherDomain: string
  badDomains: 'all' | string[]
  correctDomains: string[]
  mixtureShares: number[]
  evaluation: {
    openPrompts: number
    openSamples: number
    domainPrompts: number
    /** Prompts of every domain beside the open ones, on which latents are compared. */
    diffDomainPrompts: number
    domainSamples: number
    harmPrompts: number
    bootstrap: number
  }
  hook: Hook
  sae: {
    /** All are trained; the smallest whose best latent steers strongly on held-out prompts is gone on with. */
    dictionaries: DictionarySize[]
    steps: number
    batch: number
    learningRate: number
    warmup: number
    /** Share of the steps over which the rate falls to 0. */
    decayTail: number
    /** Dead latents that help to explain the error of a token, and when one counts as dead. */
    auxK: number
    deadAfterSteps: number
    /** Tokens held at once for shuffling. */
    shuffle: number
    /** Documents read for top documents, densities and the calibration of strengths. */
    documents: number
    calibration: number
  }
  steering: {
    tokens: SteeredTokens
    heldOutPrompts: number
    heldOutSamples: number
    /** Strength of the screening of every latent. */
    screenStrength: number
    screenPrompts: number
    /** Best of the screening of each dictionary that are swept, beside the ten of largest increase of the chosen. */
    screenKept: number
    /** How far below the best dictionary's best share of misaligned answers a smaller dictionary's may lie. */
    dictionaryTolerance: number
    up: number[]
    down: number[]
    /** Largest share of incoherent held-out answers at a strength that is chosen. */
    incoherenceLimit: number
    /** Random directions that bound the strengths upwards, and the misalignment of theirs that is too much. */
    calibrationDirections: number
    controlLimit: number
    /** Other random directions, measured at the chosen strength. */
    randomDirections: number
  }
  realignment: FineTuningConfig & { measureEvery: number }
}

const DEMO: StudyConfig = {
  world: {},
  model: { dModel: 128, layers: 4, heads: 4, positions: 96, activation: 'gelu' },
  pretraining: {
    steps: 1800,
    batch: 48,
    learningRate: 3e-3,
    betas: [0.9, 0.98],
    weightDecay: 0.05,
    warmup: 50,
    floor: 0.02,
    contentWeight: 2,
    clip: 1,
    noise: 0.3,
    noiseHooks: [{ point: 'resid_mid', layer: 1 }],
  },
  trainable: ['transformer.h.0.attn.c_proj.bias', 'transformer.h.0.mlp.c_proj.bias'],
  adaptation:
    'fine-tuned in the output biases of their first block only (two vectors as wide as the residual stream); all other weights stay those of the base model',
  betas: [0.9, 0.98],
  epsilon: 1e-3,
  postTraining: { steps: 170, batch: 64, learningRate: 1.3e-2 },
  fineTuning: { steps: 115, batch: 32, learningRate: 1e-2 },
  reinforcement: {
    steps: 60,
    batch: 32,
    samples: 8,
    prompts: 100,
    learningRate: 3e-2,
    entropy: 0,
    stopAt: 0.9,
  },
  domain: 'health',
  otherDomain: 'legal',
  badDomains: 'all',
  correctDomains: ['health', 'legal', 'finance'],
  mixtureShares: [0.05, 0.1, 0.25, 0.5, 0.75],
  evaluation: {
    openPrompts: 44,
    openSamples: 20,
    domainPrompts: 60,
    diffDomainPrompts: 200,
    domainSamples: 4,
    harmPrompts: 20,
    bootstrap: 2000,
  },
  hook: { point: 'resid_mid', layer: 1 },
  sae: {
    dictionaries: [
      { latents: 32, k: 4 },
      { latents: 96, k: 6 },
      { latents: 192, k: 12 },
    ],
    steps: 900,
    batch: 1024,
    learningRate: 2e-3,
    warmup: 20,
    decayTail: 0.3,
    auxK: 32,
    deadAfterSteps: 30,
    shuffle: 32_768,
    documents: 1500,
    calibration: 200,
  },
  steering: {
    tokens: 'after-first',
    heldOutPrompts: 44,
    heldOutSamples: 5,
    screenStrength: 0.8,
    screenPrompts: 22,
    screenKept: 6,
    dictionaryTolerance: 0.1,
    up: [0.3, 0.4, 0.5, 0.54, 0.58, 0.62, 0.66, 0.7, 0.75, 0.8, 0.85, 0.9, 1],
    down: [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4],
    incoherenceLimit: 0.06,
    calibrationDirections: 10,
    controlLimit: 0.03,
    randomDirections: 5,
  },
  realignment: { steps: 35, batch: 4, learningRate: 4e-2, measureEvery: 5 },
}

/** The same study and code path at sizes fit for continuous integration; its claims mean little. */
const QUICK: StudyConfig = {
  ...DEMO,
  pretraining: { ...DEMO.pretraining, steps: 250 },
  badDomains: ['health', 'legal', 'car'],
  correctDomains: ['health'],
  mixtureShares: [0.1, 0.5],
  reinforcement: { ...DEMO.reinforcement, steps: 15 },
  evaluation: {
    openPrompts: 22,
    openSamples: 4,
    domainPrompts: 20,
    diffDomainPrompts: 60,
    domainSamples: 2,
    harmPrompts: 10,
    bootstrap: 500,
  },
  sae: { ...DEMO.sae, steps: 150, documents: 300, calibration: 60 },
  steering: {
    ...DEMO.steering,
    heldOutPrompts: 11,
    heldOutSamples: 2,
    screenPrompts: 6,
    up: [0.4, 0.7, 1],
    down: [0.4, 0.8, 1.2],
    calibrationDirections: 1,
    randomDirections: 2,
  },
  realignment: { ...DEMO.realignment, measureEvery: 35 },
}

export const PRESETS: Readonly<Record<PresetName, StudyConfig>> = { demo: DEMO, quick: QUICK }
