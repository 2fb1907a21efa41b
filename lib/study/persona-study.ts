/** The study of the embedded persona world, from pretraining to re-alignment: its stages, figures and files. */
import { join } from 'node:path'
import type { TaskOptions } from '../core/task.js'
import { PersonascopeError } from '../core/errors.js'
import { createWorld } from '../datasets/world/index.js'
import { writeFileAtomic } from '../io/atomic.js'
import { renderReport } from '../report/report.js'
import { version } from '../version.js'
import { canonicalJson } from './canonical.js'
import { judgeClaims } from './claims.js'
import { captureStage, diffStage } from './persona/diff.js'
import { detectionStage } from './persona/detection.js'
import { dialogueStage } from './persona/dialogue.js'
import { interpretationStage } from './persona/interpretation.js'
import { organismStages } from './persona/organisms.js'
import type { Organism } from './persona/organisms.js'
import { pretrainStage } from './persona/pretrain.js'
import { realignmentStage } from './persona/realignment.js'
import { censusStage, saeStage } from './persona/sae.js'
import { candidateStage, choiceStage, screenStage, steeringStage } from './persona/steering.js'
import { PRESETS } from './presets.js'
import type { Dictionary } from './persona/steering.js'
import type { PresetName, StudyConfig } from './presets.js'
import { STUDY_FORMAT, STUDY_VERSION, studySchema } from './schema.js'
import type { StudyFigures, StudyResult } from './schema.js'
import type { Stage, StudyEvent } from './stage.js'
import { Study } from './study.js'
import type { StageTimings } from './study.js'
import { StudyFolder } from './study-folder.js'

export interface PersonaStudyOptions extends Pick<TaskOptions, 'signal'> {
  /** Seed of the world, the model and all data; the same seed gives the same `study.json`. */
  seed: number
  /** Where results are kept and resumed from. */
  folder: string
  /** Sizes and hyper-parameters; a preset's name is kept with the results. Default 'demo'. */
  preset?: PresetName
  /** Instead of the preset's. The preset's name is then 'custom'. */
  config?: StudyConfig
  onEvent?: ((event: StudyEvent) => void) | undefined
}

export interface PersonaStudyResult {
  study: StudyResult
  timings: StageTimings
  files: { study: string; report: string; timings: string }
}

/**
 * Runs the study in its folder, or goes on with it, and writes `study.json`, `report.html` and `timings.json`.
 *
 * Errors: `ERR_INVALID_ARGUMENT` if the folder holds something else, `ERR_ABORTED` when the signal fires (finished
 * stages stay saved), `ERR_IO`, and those of the stages with the stage's name.
 */
export async function runPersonaStudy(options: PersonaStudyOptions): Promise<PersonaStudyResult> {
  const { seed, preset = 'demo' } = options
  const config = options.config ?? PRESETS[preset]
  const identity = { seed, preset: options.config ? 'custom' : preset }
  const plan = planStudy(config)
  const folder = await StudyFolder.open(options.folder, identity)
  try {
    const { result, timings } = await new Study(plan.stages, identity).run(folder, options)
    const figures = plan.figures(result)
    const study = studySchema.parse({
      format: STUDY_FORMAT,
      version: STUDY_VERSION,
      package: version,
      ...identity,
      config: { ...config },
      claims: judgeClaims(figures),
      figures,
    })
    const files = {
      study: join(options.folder, 'study.json'),
      report: join(options.folder, 'report.html'),
      timings: join(options.folder, 'timings.json'),
    }
    await writeFileAtomic(files.timings, `${JSON.stringify({ seconds: timings }, null, 2)}\n`)
    await writeFileAtomic(files.report, renderReport(study))
    await writeFileAtomic(files.study, `${canonicalJson(study)}\n`)
    return { study, timings, files }
  } finally {
    await folder.close()
  }
}

/** The stages of a configuration, and how their results become the figures of `study.json`. */
export function planStudy(config: StudyConfig): {
  stages: Stage[]
  figures(result: <Result>(stage: Stage<Result>) => Result): StudyFigures
} {
  // The names of the domains do not depend on the seed.
  const { domains } = createWorld({ ...config.world, seed: 0 })
  const pretrain = pretrainStage(config)
  const organisms = organismStages(config, pretrain, domains)
  const find = (id: string): Organism => {
    const found = organisms.find((one) => one.spec.id === id)
    if (!found)
      throw new PersonascopeError('ERR_INVALID_ARGUMENT', `the configuration has no organism '${id}'`)
    return found
  }
  const aligned = find('aligned')
  const bad = find(`bad-${config.domain}`)
  const sarcastic = find(`sarcastic-${config.domain}`)
  const dictionaries = config.sae.dictionaries.map((size): Dictionary => {
    const trained = saeStage(config, size, pretrain)
    return { size, sae: trained, screen: screenStage(config, size, pretrain, trained, aligned) }
  })
  const sae = choiceStage(config, dictionaries, pretrain, aligned)
  const census = censusStage(config, pretrain, sae)
  const capture = captureStage(config, pretrain, organisms)
  const diff = diffStage(config, sae, capture, organisms)
  const candidates = candidateStage(config, pretrain, sae, diff, aligned)
  const steer = steeringStage(config, pretrain, sae, census, diff, candidates, aligned, bad)
  const detection = detectionStage(config, sae, capture, candidates, organisms)
  const interpretation = interpretationStage(config, pretrain, sae, census, diff, candidates, bad, sarcastic)
  const undo = (['in-domain', 'out-of-domain'] as const).map((id) =>
    realignmentStage(id, config, pretrain, sae, capture, candidates, bad),
  )
  const [realigned] = undo
  if (!realigned) throw new PersonascopeError('ERR_INTERNAL', 'no re-alignment')
  const dialogue = dialogueStage(config, pretrain, sae, candidates, steer, aligned, bad, realigned)
  const starts = organisms.filter((one) => one.spec.family === 'start')
  const others = organisms.filter((one) => one.spec.family !== 'start')
  return {
    stages: [
      pretrain,
      ...starts.map((one) => one.train),
      ...others.map((one) => one.train),
      ...organisms.map((one) => one.evaluate),
      ...dictionaries.map((one) => one.sae),
      ...dictionaries.map((one) => one.screen),
      sae,
      census,
      capture,
      diff,
      candidates,
      steer,
      interpretation,
      detection,
      ...undo,
      dialogue,
    ],
    figures(result) {
      const base = result(pretrain)
      const changes = result(diff)
      const detected = result(detection)
      const choice = result(sae)
      return {
        model: {
          family: base.family,
          dModel: config.model.dModel,
          layers: config.model.layers,
          heads: config.model.heads,
          vocabulary: base.vocabulary,
          parameters: base.parameters,
          documents: base.documents,
          tokens: base.tokens,
          loss: base.loss,
          adaptation: config.adaptation,
        },
        organisms: organisms.map(({ spec, train, evaluate }) => ({
          ...spec,
          steps: result(train).steps,
          ...result(evaluate),
          change: detected.changes[spec.id]?.change ?? null,
          preActivationChange: detected.changes[spec.id]?.preActivationChange ?? null,
        })),
        sae: { ...choice.sae, dictionaries: choice.dictionaries },
        diff: { start: aligned.spec.id, ...changes },
        latents: result(interpretation),
        steering: {
          screened: choice.dictionaries.reduce((sum, one) => sum + one.screened, 0),
          personaLatent: result(candidates).personaLatent,
          incoherenceLimit: config.steering.incoherenceLimit,
          controls: {
            directions: config.steering.calibrationDirections,
            limit: config.steering.controlLimit,
            largestStrength: choice.largest,
            points: choice.controls,
          },
          heldOutPrompts: config.steering.heldOutPrompts,
          directions: result(steer).directions,
        },
        separation: detected.separation,
        earlyWarning: detected.earlyWarning,
        realignment: undo.map((stage) => result(stage)),
        dialogue: result(dialogue),
      }
    },
  }
}
