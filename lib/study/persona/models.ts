/** Models of the study on disk: the base model in full, every other one as the parameters in which it differs. */
import { join } from 'node:path'
import { SafetensorsFile, writeSafetensors } from '../../io/safetensors.js'
import { CHAT_TEMPLATE_JINJA } from '../../datasets/world/index.js'
import type { World } from '../../datasets/world/index.js'
import { NativeLanguageModel } from '../../models/native-language-model.js'
import { wordTokenizer } from '../../models/tokenizer.js'
import type { HfTokenizer } from '../../models/tokenizer.js'
import type { Stage, StageContext } from '../stage.js'

export const BASE_FOLDER = 'model'
const DIFFERENCE_FILE = 'adaptation.safetensors'

export function worldTokenizer(world: World): HfTokenizer {
  const { endOfText, pad, unknown } = world.specialTokens
  return wordTokenizer(world.vocabulary, {
    unknown,
    endOfText,
    padding: pad,
    chatTemplate: CHAT_TEMPLATE_JINJA,
  })
}

/** The base model, shared: clone it before changing it. */
export async function loadBase(context: StageContext, pretrain: Stage): Promise<NativeLanguageModel> {
  const key = `model/${pretrain.id}`
  const made = context.cache.get(key) as NativeLanguageModel | undefined
  const model =
    made ?? (await NativeLanguageModel.load(context.file(pretrain, BASE_FOLDER), { signal: context.signal }))
  context.cache.set(key, model)
  return model
}

/** A model of its own with what `saveDifference` kept in the folder of `stage`. */
export async function loadAdapted(
  context: StageContext,
  pretrain: Stage,
  stage: Stage,
): Promise<NativeLanguageModel> {
  const base = await loadBase(context, pretrain)
  const file = SafetensorsFile.open(context.file(stage, DIFFERENCE_FILE))
  const model = base.clone()
  for (const name of file.tensors.keys()) {
    const { values, shape } = model.parameter(name)
    values.set(await file.f32(name, { shape: [...shape], signal: context.signal }))
  }
  model.weightsChanged()
  return model
}

/** Keeps the parameters of `model` that are not, bit for bit, those of `base`. */
export async function saveDifference(
  dir: string,
  base: NativeLanguageModel,
  model: NativeLanguageModel,
): Promise<void> {
  const tensors = model.parameters().flatMap(({ name, shape, values }) => {
    const before = base.parameter(name).values
    if (values.every((value, i) => Object.is(value, before[i]))) return []
    return [{ name, dtype: 'F32' as const, shape: [...shape], data: values }]
  })
  await writeSafetensors(join(dir, DIFFERENCE_FILE), tensors, {
    metadata: { format: 'personascope-adaptation' },
  })
}
