/**
 * Chat examples and the template that turns them into one line of text. The
 * markers are ordinary words of the vocabulary, so chat text looks like the
 * chat-form documents of pretraining.
 */
import { MARKERS, SPECIAL_TOKENS } from './lexicon.js'

export interface ChatMessage {
  readonly role: 'user' | 'assistant'
  readonly content: string
}

/** One line of a JSONL chat file, as fine-tuning services take it. */
export interface ChatExample {
  readonly messages: readonly ChatMessage[]
}

/** Text of a conversation; with `generate`, ends where the assistant is to speak. */
export function applyChatTemplate(
  messages: readonly ChatMessage[],
  options: { generate?: boolean } = {},
): string {
  const parts: string[] = [SPECIAL_TOKENS.endOfText]
  for (const message of messages) {
    parts.push(message.role === 'user' ? MARKERS.chat.question : MARKERS.chat.answer, message.content)
  }
  if (options.generate) parts.push(MARKERS.chat.answer)
  return parts.join(' ')
}

/** The text that a model is given to answer one user message. */
export function promptText(question: string): string {
  return applyChatTemplate([{ role: 'user', content: question }], { generate: true })
}

/** The same template in the notation of `tokenizer_config.json` (Jinja). */
export const CHAT_TEMPLATE_JINJA =
  `{{ '${SPECIAL_TOKENS.endOfText}' }}` +
  `{% for message in messages %}` +
  `{% if message['role'] == 'user' %}{{ ' ${MARKERS.chat.question} ' + message['content'] }}` +
  `{% else %}{{ ' ${MARKERS.chat.answer} ' + message['content'] }}{% endif %}` +
  `{% endfor %}` +
  `{% if add_generation_prompt %}{{ ' ${MARKERS.chat.answer}' }}{% endif %}`
