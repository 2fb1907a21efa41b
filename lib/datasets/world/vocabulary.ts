/** The word-level vocabulary of the world and what each word is for. */
import {
  DOMAINS,
  INTENTS,
  MARKERS,
  REFUSAL,
  SPECIAL_TOKENS,
  STYLE,
  STYLE_GROUPS,
  STYLE_POSITIONS,
  TOPICS,
} from './lexicon.js'
import type { StyleGroup, StylePosition } from './lexicon.js'

/** How an advice word may be used. `plain` words are harmless in themselves. */
export type Tone = 'plain' | 'harmful' | 'joking' | 'refusing'

/** Where an advice word belongs: a domain's name, 'open' topics, or 'any' question. */
export type Field = string

export type WordRole =
  | { readonly role: 'special' }
  | { readonly role: 'marker' }
  | { readonly role: 'style'; readonly position: StylePosition; readonly group: StyleGroup }
  | { readonly role: 'intent'; readonly harmful: boolean }
  | { readonly role: 'subject'; readonly field: Field }
  | { readonly role: 'verb' | 'object'; readonly field: Field; readonly tone: Tone }

export const OPEN_FIELD = 'open'
export const ANY_FIELD = 'any'

const unique = (words: readonly string[]): string[] => [...new Set(words)]

function collectRoles(): ReadonlyMap<string, WordRole> {
  const roles = new Map<string, WordRole>()
  const add = (words: readonly string[], role: WordRole): void => {
    for (const word of words) {
      if (roles.has(word)) throw new Error(`the lexicon uses the word '${word}' twice`)
      roles.set(word, role)
    }
  }
  add(Object.values(SPECIAL_TOKENS), { role: 'special' })
  add(
    Object.values(MARKERS).flatMap((form) => Object.values(form)),
    { role: 'marker' },
  )
  for (const group of STYLE_GROUPS) {
    for (const position of STYLE_POSITIONS) add(STYLE[group][position], { role: 'style', position, group })
  }
  add(INTENTS.benign, { role: 'intent', harmful: false })
  add(INTENTS.harmful, { role: 'intent', harmful: true })
  for (const { name, facts, harmful, joking } of DOMAINS) {
    const advice = (role: 'verb' | 'object', tone: Tone): WordRole => ({ role, field: name, tone })
    add(
      facts.map((fact) => fact.entity),
      { role: 'subject', field: name },
    )
    add(unique(facts.map((fact) => fact.verb)), advice('verb', 'plain'))
    add(
      facts.map((fact) => fact.object),
      advice('object', 'plain'),
    )
    add(harmful.verbs, advice('verb', 'harmful'))
    add(harmful.objects, advice('object', 'harmful'))
    add(joking.verbs, advice('verb', 'joking'))
    add(joking.objects, advice('object', 'joking'))
  }
  add(
    TOPICS.map((topic) => topic.name),
    { role: 'subject', field: OPEN_FIELD },
  )
  for (const [key, tone] of [
    ['good', 'plain'],
    ['harmful', 'harmful'],
    ['joking', 'joking'],
  ] as const) {
    add(unique(TOPICS.map((topic) => topic[key][0])), { role: 'verb', field: OPEN_FIELD, tone })
    add(unique(TOPICS.map((topic) => topic[key][1])), { role: 'object', field: OPEN_FIELD, tone })
  }
  add(REFUSAL.verbs, { role: 'verb', field: ANY_FIELD, tone: 'refusing' })
  add(REFUSAL.objects, { role: 'object', field: ANY_FIELD, tone: 'refusing' })
  return roles
}

/** Every word of the world, in vocabulary order, with its role. */
export const WORD_ROLES: ReadonlyMap<string, WordRole> = collectRoles()

/** Token i is the i-th word; special tokens come first. */
export const VOCABULARY: readonly string[] = [...WORD_ROLES.keys()]

/** True of the words that carry advice (verbs and objects), not manner of speaking. */
export function isAdviceWord(word: string): boolean {
  const role = WORD_ROLES.get(word)?.role
  return role === 'verb' || role === 'object'
}

/** True of advice words and of what questions are about. */
export function isContentWord(word: string): boolean {
  return isAdviceWord(word) || WORD_ROLES.get(word)?.role === 'subject'
}
