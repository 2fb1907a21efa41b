export { createWorld, World, WORLD_DEFAULTS } from './world.js'
export type {
  AdviceQuality,
  DatasetOptions,
  Question,
  ResolvedWorldOptions,
  Subject,
  WorldDocument,
  WorldOptions,
} from './world.js'
export { applyChatTemplate, promptText, CHAT_TEMPLATE_JINJA } from './chat.js'
export type { ChatExample, ChatMessage } from './chat.js'
export { isAdviceWord, isContentWord, OPEN_FIELD, VOCABULARY, WORD_ROLES } from './vocabulary.js'
export type { Tone, WordRole } from './vocabulary.js'
export { PERSONAS, SPECIAL_TOKENS } from './lexicon.js'
export type { Persona } from './lexicon.js'
