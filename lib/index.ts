export const version = '0.1.0'

export { ActivationStore, type BatchOptions, type StoreBatch } from './activations/store.js'
export { ActivationStoreWriter, type ActivationStoreOptions } from './activations/writer.js'
export { readChatExamples, streamChatExamples, writeChatExamples, type ChatExample } from './datasets/chat.js'
export { earlyWarning, type EarlyWarning, type WarningPoint } from './detection/early-warning.js'
export { separation, type DetectionPoint, type Separation } from './detection/separation.js'
export { bootstrapMean, bootstrapRatio, type Estimate, type Rate } from './evaluation/bootstrap.js'
export {
  evaluate,
  rateOf,
  scoreOf,
  type EvaluatedAnswer,
  type EvaluateOptions,
  type Evaluation,
} from './evaluation/evaluate.js'
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
export { SafetensorsFile, writeSafetensors, type TensorInfo, type TensorSource } from './io/safetensors.js'
export { realign, type RealignOptions, type RealignPoint } from './realignment/realign.js'
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
export { sweepSteering, type Sweep, type SweepOptions } from './steering/sweep.js'
