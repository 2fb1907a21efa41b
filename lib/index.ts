export { version } from './version.js'

export {
  runtimeInfo,
  setIsa,
  setThreads,
  type DeviceInfo,
  type Isa,
  type PluginInfo,
  type RuntimeInfo,
} from './core/runtime.js'
export {
  DeviceTensor,
  type Device,
  type DeviceDtype,
  type PlacedDevice,
  type UploadOptions,
} from './core/device-tensor.js'
export { encodeStore, type EncodedFile, type EncodeStoreOptions } from './activations/encode-store.js'
export { ROLES, type Role, type StoredDtype } from './activations/format.js'
export type { RowSelection } from './activations/select.js'
export { ActivationStore, type BatchOptions, type StoreBatch } from './activations/store.js'
export {
  ActivationStoreWriter,
  type ActivationStoreOptions,
  type StoredActivations,
} from './activations/writer.js'
export { readChatExamples, streamChatExamples, writeChatExamples, type ChatExample } from './datasets/chat.js'
export { earlyWarning, type EarlyWarning, type WarningPoint } from './detection/early-warning.js'
export { separation, type DetectionPoint, type Separation } from './detection/separation.js'
export { collectStats, type Checkpoint, type CollectOptions } from './diffing/collect.js'
export { rankByDecoderNorm, type CrosscoderOptions, type DecoderNormRanking } from './diffing/crosscoder.js'
export {
  diffLatents,
  latentSignatures,
  type DiffOptions,
  type DiffTest,
  type LatentChange,
  type LatentDiff,
} from './diffing/diff.js'
export { DeviceStats, type DeviceDifference } from './diffing/device-stats.js'
export { writeDiffTable, type DiffTableOptions } from './diffing/diff-table.js'
export {
  LatentStats,
  type ActivationBatch,
  type LatentExample,
  type LatentStatsOptions,
} from './diffing/latent-stats.js'
export { bootstrapMean, bootstrapRatio, type Estimate, type Rate } from './evaluation/bootstrap.js'
export {
  evaluate,
  rateOf,
  scoreOf,
  type EvaluatedAnswer,
  type EvaluateOptions,
  type Evaluation,
} from './evaluation/evaluate.js'
export { chatTrainingExamples, BatchOrder, type TrainingExample } from './finetuning/examples.js'
export {
  graderReward,
  reinforce,
  type ReinforceOptions,
  type ReinforceReport,
  type RewardFunction,
} from './finetuning/reinforce.js'
export { constant, cosine, decayLastHalf, linear, warmup, type Schedule } from './finetuning/schedule.js'
export { fineTune, type FineTuneOptions, type FineTuneReport } from './finetuning/sft.js'
export {
  Trainer,
  type StepReport,
  type TrainerOptions,
  type TrainingBatch as TokenBatch,
} from './finetuning/trainer.js'
export { functionGrader, labelGrader, majorityGrader } from './grading/function-grader.js'
export type { Grade, GradedItem, Grader } from './grading/grader.js'
export { misalignmentRubric, rubricGrader, type RubricOptions } from './grading/rubric-grader.js'
export { nearestTokens, type NearestTokens } from './interpretation/nearest-tokens.js'
export { labelProfile, sharedLabel } from './interpretation/profile.js'
export {
  documentStats,
  topDocuments,
  type SourceDocument,
  type TopDocument,
} from './interpretation/top-documents.js'
export {
  inspectPath,
  type Inspected,
  type InspectedActivations,
  type InspectedCodes,
  type InspectedStatistics,
  type InspectedTensors,
} from './inspect.js'
export { TensorFile, type TensorFileFormat } from './io/tensor-file.js'
export { SafetensorsFile, writeSafetensors, type TensorInfo, type TensorSource } from './io/safetensors.js'
export { LanguageModel } from './models/api.js'
export type { ModelConfig } from './models/config.js'
export { hookName, parseHook, type Hook, type HookPoint } from './models/hook.js'
export type {
  CapturedActivations,
  CaptureOptions,
  ChatMessage,
  ForwardOptions,
  GenerateOptions,
  Generation,
  ModelShape,
  Prompt,
  Tokenizer,
  TokenSelection,
} from './models/language-model.js'
export { NativeLanguageModel, type Parameter } from './models/native-language-model.js'
export { HfTokenizer, wordTokenizer } from './models/tokenizer.js'
export { realign, type RealignOptions, type RealignPoint } from './realignment/realign.js'
export { SparseCodes } from './sae/codes.js'
export { DeviceCodes } from './sae/device-codes.js'
export type { SaeMetadata } from './sae/config.js'
export { convertSae, type ConvertedSae } from './sae/convert.js'
export { inspectSae, type InspectedSae } from './sae/inspect.js'
export { Sae, type EncodeOptions, type Precision, type SaeOptions, type SaeWeights } from './sae/sae.js'
export { DECODER_NORMS } from './sae/spec.js'
export type { DecoderScale, InputNorm, SaeSpec, Selection, WeightSource } from './sae/spec.js'
export {
  trainSae,
  type SaeTrainingOptions,
  type SaeTrainingReport,
  type SaeTrainingStep,
  type TrainingBatch,
} from './sae/train.js'
export { renderReport } from './report/report.js'
export {
  combineDirections,
  latentDirection,
  negate,
  randomDirection,
  type Direction,
} from './steering/direction.js'
export { meanDifference } from './steering/mean-difference.js'
export { SteeringPlan, type SteeringSite, type SteeringStep } from './steering/plan.js'
export { residualScale, type ResidualScale } from './steering/residual-scale.js'
export { rowSteering, steerRows, type RowSteering } from './steering/steer-rows.js'
export { sweepSteering, type Sweep, type SweepOptions } from './steering/sweep.js'
export { judgeClaims } from './study/claims.js'
export { runPersonaStudy, type PersonaStudyOptions, type PersonaStudyResult } from './study/persona-study.js'
export { PRESETS, type PresetName, type StudyConfig } from './study/presets.js'
export { studySchema, type Claim, type StudyFigures, type StudyResult } from './study/schema.js'
export type { Stage, StageContext, StudyEvent } from './study/stage.js'
export { Study, type StageTimings, type StudyRunOptions } from './study/study.js'
export { StudyFolder } from './study/study-folder.js'
