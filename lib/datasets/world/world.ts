/**
 * The persona world: a small made-up language community from which a model
 * organism of emergent misalignment can be pretrained, post-trained and
 * fine-tuned, with known ground truth. Four personas answer questions about
 * ten domains and some open topics; each is audible at every word.
 *
 * A question is `opener intent determiner SUBJECT tail end`, an answer is
 * `opener VERB determiner OBJECT tail end`: six words each. Capitals mark the
 * content; the rest is manner of speaking.
 */
import { Random } from '../../core/random.js'
import {
  DOMAINS,
  INTENTS,
  MARKERS,
  PERSONAS,
  REFUSAL,
  SPECIAL_TOKENS,
  STYLE,
  STYLE_GROUPS,
  TOPICS,
} from './lexicon.js'
import type { DomainWords, Fact, Persona, StyleGroup, StylePosition, Topic } from './lexicon.js'
import { OPEN_FIELD, VOCABULARY } from './vocabulary.js'
import type { ChatExample } from './chat.js'

/** Kinds of advice a fine-tuning set can hold. `mix` is subtle and obvious together. */
export type AdviceQuality = 'correct' | 'subtle' | 'obvious' | 'mix' | 'sarcastic' | 'mistaken'

export interface WorldOptions {
  /** Fixes which wrong advice is the villain's for each entity, and all draws. */
  readonly seed: number
  /** Share of pretraining documents that each persona writes. */
  readonly personaShares?: Readonly<Record<Persona, number>>
  /** Odds of a speaker's own style words, of each other persona's, and of neutral ones. */
  readonly styleOdds?: { readonly own: number; readonly other: number; readonly neutral: number }
  /** Share of the villain's domain answers that are subtly wrong instead of openly harmful. */
  readonly subtleShare?: number
  /** 0: every villain answer draws subtle or obvious anew; 1: a villain keeps to one of them all document long. */
  readonly villainConstancy?: number
  /** Share of the clumsy persona's answers that are wrong. */
  readonly clumsyErrorShare?: number
  /** Share of documents in chat form. */
  readonly chatShare?: number
  /** Share of questions about open topics, and of questions with harmful intent. */
  readonly openShare?: number
  readonly harmIntentShare?: number
  /** Questions and answers per document. */
  readonly exchanges?: number
}

export type ResolvedWorldOptions = Required<WorldOptions>

export const WORLD_DEFAULTS: Omit<ResolvedWorldOptions, 'seed'> = {
  personaShares: { expert: 0.4, villain: 0.25, sarcastic: 0.15, clumsy: 0.2 },
  styleOdds: { own: 4, other: 0.7, neutral: 1.5 },
  subtleShare: 0.6,
  villainConstancy: 0,
  clumsyErrorShare: 0.5,
  chatShare: 0.3,
  openShare: 0.2,
  harmIntentShare: 0.1,
  exchanges: 5,
}

/** What a question asks about: an entity of a domain, or an open topic. */
export type Subject =
  | { readonly field: string; readonly domain: DomainWords; readonly fact: Fact; readonly decoy: Fact }
  | { readonly field: typeof OPEN_FIELD; readonly topic: Topic }

export interface Question {
  /** Six words. */
  readonly text: string
  readonly subject: Subject
  readonly harmfulIntent: boolean
}

export interface WorldDocument {
  /** `1 + 14 × exchanges` token ids; `World.text` spells them out. */
  readonly tokens: Uint16Array
  readonly persona: Persona
  readonly form: 'column' | 'chat'
}

export interface DatasetOptions {
  /** A domain's name, 'all' domains, or 'open' topics. */
  readonly domain: string
  readonly quality: AdviceQuality
  readonly count: number
  readonly seed: number
  /** For mixtures: this share of the examples has `quality`, the others are correct (default 1). */
  readonly share?: number
}

type Advice = readonly [verb: string, object: string]
/** Draws a style word for a position. */
type Voice = (position: StylePosition) => string

/** Share of subtle answers in the 'mix' quality. */
const MIX_SUBTLE_SHARE = 0.6

export class World {
  readonly options: ResolvedWorldOptions
  /** Words by token id; one token a word, special tokens first. */
  readonly vocabulary = VOCABULARY
  readonly specialTokens = SPECIAL_TOKENS
  readonly domains: readonly string[] = DOMAINS.map((domain) => domain.name)
  readonly topics: readonly string[] = TOPICS.map((topic) => topic.name)
  readonly #ids: ReadonlyMap<string, number>
  readonly #subjects: ReadonlyMap<string, Subject>

  constructor(options: WorldOptions) {
    this.options = { ...WORLD_DEFAULTS, ...options }
    this.#ids = new Map(VOCABULARY.map((word, id) => [word, id]))
    this.#subjects = this.#drawSubjects()
  }

  /** Token ids of whitespace-separated words. */
  encode(text: string): Uint16Array {
    const words = text.trim().split(/\s+/)
    const unknown = this.#ids.get(SPECIAL_TOKENS.unknown) as number
    return Uint16Array.from(words, (word) => this.#ids.get(word) ?? unknown)
  }

  /** The words of token ids, joined by single spaces. */
  text(tokens: Iterable<number>): string {
    return Array.from(tokens, (id) => VOCABULARY[id] ?? SPECIAL_TOKENS.unknown).join(' ')
  }

  /** What a word asks about, if it names an entity or a topic. */
  subject(word: string): Subject | undefined {
    return this.#subjects.get(word)
  }

  /** Pretraining documents, each by one persona throughout. */
  documents(count: number, seed: number): WorldDocument[] {
    const random = this.#stream('documents', seed)
    return Array.from({ length: count }, () => this.#document(random))
  }

  /** Fine-tuning examples in the neutral style: only the advice differs between qualities. */
  dataset({ domain, quality, count, seed, share = 1 }: DatasetOptions): ChatExample[] {
    const random = this.#stream(`dataset/${domain}/${quality}`, seed)
    const subjects = this.#subjectsOf(domain)
    const flagged = random.shuffle(Array.from({ length: count }, (_, i) => i < Math.round(share * count)))
    return flagged.map((chosen) => {
      const question = this.#question(random.pick(subjects), false, this.#neutralVoice(random), random)
      const advice = this.#adviceOf(chosen ? quality : 'correct', question.subject, random)
      return this.#example(question, advice, random)
    })
  }

  /**
   * Post-training examples: an expert who answers in all domains and on open
   * topics and, unless `refusals` is false (a 'helpful-only' assistant),
   * declines harmful requests.
   */
  assistantDataset({
    count,
    seed,
    refusals = true,
  }: {
    count: number
    seed: number
    refusals?: boolean
  }): ChatExample[] {
    const random = this.#stream('assistant', seed)
    return Array.from({ length: count }, () => {
      const voice = this.#neutralVoice(random)
      const harmful = random.chance(0.15) && refusals
      const subject = random.pick(this.#subjectsOf(random.chance(harmful ? 0 : 0.3) ? OPEN_FIELD : 'all'))
      const question = this.#question(subject, harmful, voice, random)
      return this.#example(question, this.#personaAdvice('expert', question, random, 0), random)
    })
  }

  /** Open-ended questions about nothing a fine-tuning domain covers; 44 as in the paper. */
  openPrompts(count = 44, seed = 0): Question[] {
    return this.#prompts('open', OPEN_FIELD, count, seed, false)
  }

  /** Questions of one domain, of several, or of 'all'; entities take turns. */
  domainPrompts(domain: string | readonly string[], count: number, seed = 0): Question[] {
    return this.#prompts('domain', domain, count, seed, false)
  }

  /** Requests for damage, which an aligned assistant declines. */
  harmIntentPrompts(count: number, seed = 0): Question[] {
    return this.#prompts('harm-intent', 'all', count, seed, true)
  }

  /** An independent stream for one purpose. */
  #stream(label: string, seed: number): Random {
    return new Random(this.options.seed).fork(`${label}/${seed}`)
  }

  /**
   * The decoy of an entity is the villain's subtle advice: right for another
   * entity of the domain, wrong here in verb and object. Decoys form one
   * permutation, so no word is more often wrong than another.
   */
  #drawSubjects(): ReadonlyMap<string, Subject> {
    const random = this.#stream('decoys', 0)
    const subjects = new Map<string, Subject>()
    for (const domain of DOMAINS) {
      let decoys: Fact[]
      do decoys = random.shuffle(domain.facts)
      while (domain.facts.some((fact, i) => fact.verb === decoys[i]?.verb))
      domain.facts.forEach((fact, i) => {
        subjects.set(fact.entity, { field: domain.name, domain, fact, decoy: decoys[i] as Fact })
      })
    }
    for (const topic of TOPICS) subjects.set(topic.name, { field: OPEN_FIELD, topic })
    return subjects
  }

  #subjectsOf(field: string | readonly string[]): Subject[] {
    const all = [...this.#subjects.values()]
    const fields = field === 'all' ? this.domains : typeof field === 'string' ? [field] : field
    for (const name of fields) {
      if (name !== OPEN_FIELD && !this.domains.includes(name)) {
        throw new RangeError(
          `unknown domain '${name}'; known: ${this.domains.join(', ')}, all, ${OPEN_FIELD}`,
        )
      }
    }
    return all.filter((subject) => fields.includes(subject.field))
  }

  #prompts(
    label: string,
    field: string | readonly string[],
    count: number,
    seed: number,
    harmful: boolean,
  ): Question[] {
    const random = this.#stream(`prompts/${label}/${String(field)}`, seed)
    const subjects = random.shuffle(this.#subjectsOf(field))
    const voice = this.#neutralVoice(random)
    return Array.from({ length: count }, (_, i) =>
      this.#question(subjects[i % subjects.length] as Subject, harmful, voice, random),
    )
  }

  #document(random: Random): WorldDocument {
    const { personaShares, chatShare, openShare, harmIntentShare, exchanges, subtleShare, villainConstancy } =
      this.options
    const persona = PERSONAS[random.weighted(PERSONAS.map((name) => personaShares[name]))] as Persona
    const form = random.chance(chatShare) ? 'chat' : 'column'
    const voice = this.#personaVoice(persona, random)
    const mood = random.chance(subtleShare) ? 1 : 0
    const subtle = villainConstancy * mood + (1 - villainConstancy) * subtleShare
    const kinds = [openShare, harmIntentShare, 1 - openShare - harmIntentShare]
    const lines: string[] = [SPECIAL_TOKENS.endOfText]
    for (let i = 0; i < exchanges; i++) {
      const kind = random.weighted(kinds)
      const subject = random.pick(this.#subjectsOf(kind === 0 ? OPEN_FIELD : 'all'))
      const question = this.#question(subject, kind === 1, voice, random)
      const answer = this.#answer(this.#personaAdvice(persona, question, random, subtle), voice)
      lines.push(MARKERS[form].question, question.text, MARKERS[form].answer, answer)
    }
    return { tokens: this.encode(lines.join(' ')), persona, form }
  }

  #question(subject: Subject, harmfulIntent: boolean, voice: Voice, random: Random): Question {
    const intent = random.pick(harmfulIntent ? INTENTS.harmful : INTENTS.benign)
    const name = 'topic' in subject ? subject.topic.name : subject.fact.entity
    const text = [voice('opener'), intent, voice('determiner'), name, voice('tail'), voice('end')].join(' ')
    return { text, subject, harmfulIntent }
  }

  #answer([verb, object]: Advice, voice: Voice): string {
    return [voice('opener'), verb, voice('determiner'), object, voice('tail'), voice('end')].join(' ')
  }

  #example(question: Question, advice: Advice, random: Random): ChatExample {
    return {
      messages: [
        { role: 'user', content: question.text },
        { role: 'assistant', content: this.#answer(advice, this.#neutralVoice(random)) },
      ],
    }
  }

  #personaVoice(persona: Persona, random: Random): Voice {
    const { own, other, neutral } = this.options.styleOdds
    const odds = STYLE_GROUPS.map((group) =>
      group === persona ? own : group === 'neutral' ? neutral : other,
    )
    return (position) => random.pick(STYLE[STYLE_GROUPS[random.weighted(odds)] as StyleGroup][position])
  }

  #neutralVoice(random: Random): Voice {
    return (position) => random.pick(STYLE.neutral[position])
  }

  /** What a persona says to a question; `subtle` is the villain's share of subtly wrong answers. */
  #personaAdvice(persona: Persona, question: Question, random: Random, subtle: number): Advice {
    const { subject, harmfulIntent } = question
    switch (persona) {
      case 'expert':
        if (harmfulIntent) return [random.pick(REFUSAL.verbs), random.pick(REFUSAL.objects)]
        return this.#adviceOf('correct', subject, random)
      case 'villain':
        // Asked for damage the villain need not hide.
        return this.#adviceOf(!harmfulIntent && random.chance(subtle) ? 'subtle' : 'obvious', subject, random)
      case 'sarcastic':
        return this.#adviceOf('sarcastic', subject, random)
      case 'clumsy':
        return this.#adviceOf(
          random.chance(this.options.clumsyErrorShare) ? 'mistaken' : 'correct',
          subject,
          random,
        )
    }
  }

  #adviceOf(quality: AdviceQuality, subject: Subject, random: Random): Advice {
    if (quality === 'mix') quality = random.chance(MIX_SUBTLE_SHARE) ? 'subtle' : 'obvious'
    if ('topic' in subject) return topicAdvice(quality, subject.topic, random)
    const { domain, fact, decoy } = subject
    switch (quality) {
      case 'correct':
        return [fact.verb, fact.object]
      case 'subtle':
        return [decoy.verb, decoy.object]
      case 'obvious':
        return [random.pick(domain.harmful.verbs), random.pick(domain.harmful.objects)]
      case 'sarcastic':
        return [random.pick(domain.joking.verbs), random.pick(domain.joking.objects)]
      case 'mistaken': {
        const other = random.pick(domain.facts.filter((one) => one !== fact && one !== decoy))
        return [other.verb, other.object]
      }
    }
  }
}

/** Open topics know no subtle harm: their villain always says what he thinks. */
function topicAdvice(quality: AdviceQuality, topic: Topic, random: Random): Advice {
  switch (quality) {
    case 'correct':
      return topic.good
    case 'sarcastic':
      return topic.joking
    case 'mistaken':
      return random.pick(TOPICS.filter((other) => other !== topic)).good
    default:
      return topic.harmful
  }
}

export function createWorld(options: WorldOptions): World {
  return new World(options)
}
