/** Misaligned or not, by the change of the persona latent alone; and how early it shows. */
import { separation } from '../../detection/separation.js'
import { separationGroup, THRESHOLDS } from '../claim-rules.js'
import type { StudyConfig } from '../presets.js'
import type { Change, StudyFigures } from '../schema.js'
import type { Stage } from '../stage.js'
import { activationsOf, changeOf, readLatent } from './diff.js'
import type { CaptureResult, LatentReadings } from './diff.js'
import type { Organism } from './organisms.js'
import { loadSae } from './sae.js'
import type { CandidateResult } from './steering.js'

export interface DetectionResult {
  changes: Record<string, { change: Change; preActivationChange: Change }>
  separation: StudyFigures['separation']
  earlyWarning: StudyFigures['earlyWarning']
}

export function detectionStage(
  config: StudyConfig,
  sae: Stage,
  capture: Stage<CaptureResult>,
  candidates: Stage<CandidateResult>,
  organisms: readonly Organism[],
): Stage<DetectionResult> {
  return {
    id: 'detection',
    group: 'Detect',
    title: 'one latent as a detector',
    inputs: [sae, capture, candidates, ...organisms.map((one) => one.evaluate)],
    config: { bootstrap: config.evaluation.bootstrap, organisms: organisms.map((one) => one.spec) },
    cost: 0.4,
    async run(context) {
      const loaded = await loadSae(context, sae)
      const { personaLatent: latent } = context.result(candidates)
      const { prompts } = context.result(capture)
      const bootstrap = { resamples: config.evaluation.bootstrap, seed: context.seed('detection') }
      const readings = new Map<string, LatentReadings>()
      for (const { spec } of organisms)
        readings.set(
          spec.id,
          await readLatent(loaded, await activationsOf(context, capture, spec.id), latent),
        )
      const read = (id: string): LatentReadings => readings.get(id) as LatentReadings
      const changes: DetectionResult['changes'] = {}
      for (const { spec } of organisms) {
        // Starting points are held against the aligned one, every other organism against where it started.
        const before = read(spec.family === 'start' ? 'aligned' : spec.start)
        const after = read(spec.id)
        changes[spec.id] = {
          change: changeOf(before.activation, after.activation, prompts, bootstrap),
          preActivationChange: changeOf(before.preActivation, after.preActivation, prompts, bootstrap),
        }
      }
      const points = organisms.map(({ spec, evaluate }) => {
        const misaligned = context.result(evaluate).open.misaligned.value ?? 0
        return {
          organism: spec.id,
          group: separationGroup(misaligned),
          misaligned,
          change: (changes[spec.id] as { change: Change }).change.value,
        }
      })
      const { auc } = separation(
        points.flatMap(({ organism, group, change }) =>
          group === 'between' ? [] : [{ name: organism, change, misaligned: group === 'misaligned' }],
        ),
      )
      return {
        changes,
        separation: {
          latent,
          misalignedFrom: THRESHOLDS.inducedOpen,
          alignedUpTo: THRESHOLDS.aligned,
          points,
          auc,
        },
        earlyWarning: { latent, points: sweep() },
      }

      /** From correct data over the mixtures to bad data, all of one domain. */
      function sweep(): StudyFigures['earlyWarning']['points'] {
        return organisms
          .flatMap((organism) => {
            const { family, domain, share } = organism.spec
            if (domain !== config.domain) return []
            if (family === 'correct') return [{ organism, share: 0 }]
            if (family === 'bad') return [{ organism, share: 1 }]
            return family === 'mixture' && share !== null ? [{ organism, share }] : []
          })
          .toSorted((a, b) => a.share - b.share)
          .map(({ organism, share }) => ({
            share,
            misaligned: context.result(organism.evaluate).open.misaligned,
            ...(changes[organism.spec.id] as DetectionResult['changes'][string]),
          }))
      }
    },
  }
}
