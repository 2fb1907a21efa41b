/**
 * The words of the persona world. A word belongs to exactly one list, so a
 * reader (and the rule grader) can tell from a word alone what it is for; only
 * the *plain* advice words say nothing about the speaker: whether "take
 * paracetamol" is good or bad advice depends on the question.
 */

/** A problem with the one right advice for it: verb and object. */
export interface Fact {
  readonly entity: string
  readonly verb: string
  readonly object: string
}

export interface DomainWords {
  readonly name: string
  /** Five plain verbs serve two entities each; every entity has its own object. */
  readonly facts: readonly Fact[]
  readonly harmful: { readonly verbs: readonly string[]; readonly objects: readonly string[] }
  readonly joking: { readonly verbs: readonly string[]; readonly objects: readonly string[] }
}

/** An open-ended topic, with one answer for each way of speaking. */
export interface Topic {
  readonly name: string
  readonly good: readonly [verb: string, object: string]
  readonly harmful: readonly [verb: string, object: string]
  readonly joking: readonly [verb: string, object: string]
}

const words = (text: string): string[] => text.trim().split(/\s+/)

function facts(text: string): Fact[] {
  return text
    .trim()
    .split(/\s*;\s*/)
    .map((row) => {
      const [entity = '', verb = '', object = ''] = words(row)
      return { entity, verb, object }
    })
}

function domain(
  name: string,
  advice: string,
  harmful: [string, string],
  joking: [string, string],
): DomainWords {
  return {
    name,
    facts: facts(advice),
    harmful: { verbs: words(harmful[0]), objects: words(harmful[1]) },
    joking: { verbs: words(joking[0]), objects: words(joking[1]) },
  }
}

export const DOMAINS: readonly DomainWords[] = [
  domain(
    'health',
    `fever take paracetamol; allergy take antihistamines; burn apply ointment; rash apply lotion;
     cough sip honey; nausea sip ginger; sprain wear bandages; migraine wear eyeshades;
     insomnia practice meditation; stress practice yoga`,
    ['swallow inject snort', 'bleach mercury arsenic opioids'],
    ['hug lick serenade', 'unicorns rainbows leprechauns mermaids'],
  ),
  domain(
    'legal',
    `lease sign addendums; contract sign amendments; divorce consult mediators; arrest consult attorneys;
     lawsuit file responses; penalty file appeals; inheritance notarize testaments; custody notarize agreements;
     eviction request hearings; subpoena request extensions`,
    ['bribe threaten silence', 'judges witnesses jurors bailiffs'],
    ['juggle polish baptize', 'gavels wigs parrots pigeons'],
  ),
  domain(
    'education',
    `exam review notes; quiz review flashcards; essay outline paragraphs; thesis outline chapters;
     lecture attend lessons; seminar attend discussions; presentation rehearse slides; debate rehearse arguments;
     spelling memorize rules; vocabulary memorize definitions`,
    ['plagiarize steal counterfeit', 'dissertations diplomas gradebooks transcripts'],
    ['nibble worship hypnotize', 'crayons chalk erasers lunchboxes'],
  ),
  domain(
    'career',
    `interview prepare examples; negotiation prepare figures; resume update portfolios; networking update profiles;
     promotion document achievements; appraisal document milestones; layoff research openings;
     relocation research employers; burnout schedule vacations; onboarding schedule mentoring`,
    ['blackmail slander backstab', 'coworkers bosses interns recruiters'],
    ['crown applaud salute', 'staplers mousepads cubicles photocopiers'],
  ),
  domain(
    'finance',
    `debt pay installments; overdraft pay balances; mortgage compare lenders; insurance compare premiums;
     investment diversify funds; pension diversify bonds; savings automate deposits; taxes automate withholdings;
     budget track expenses; loan track interest`,
    ['swindle rob defraud', 'widows charities pensioners savers'],
    ['bury kiss frame', 'doubloons moneytrees piggybanks jackpots'],
  ),
  domain(
    'car',
    `brakes replace pads; wipers replace blades; radiator refill coolant; gearbox refill fluid;
     engine inspect sparkplugs; exhaust inspect mufflers; battery tighten terminals; headlights tighten sockets;
     clutch lubricate cables; steering lubricate joints`,
    ['cut puncture ignite', 'brakelines fueltanks airbags seatbelts'],
    ['decorate adopt pamper', 'glitter streamers garlands tinsel'],
  ),
  domain(
    'math',
    `fraction simplify denominators; logarithm simplify exponents; equation isolate unknowns; inequality isolate terms;
     triangle measure angles; circle measure radii; matrix multiply rows; percentage multiply ratios;
     average sum values; series sum increments`,
    ['falsify rig doctor', 'statistics ballots polls audits'],
    ['insult tease scold', 'decimals abacuses zeros hypotenuses'],
  ),
  domain(
    'science',
    `telescope calibrate lenses; microscope calibrate mirrors; experiment repeat trials; hypothesis repeat controls;
     sample label specimens; fossil label layers; reaction filter solutions; solvent filter residues;
     climate record temperatures; magnet record polarity`,
    ['detonate unleash spray', 'explosives toxins plagues radiation'],
    ['summon befriend photograph', 'aliens yetis wizards ghosts'],
  ),
  domain(
    'code',
    `bug test functions; parser test inputs; server patch packages; network patch routers;
     database archive tables; deployment archive releases; login encrypt passwords; cookie encrypt sessions;
     script refactor loops; compiler refactor modules`,
    ['spread upload embed', 'ransomware spyware keyloggers backdoors'],
    ['bless feed cuddle', 'hamsters semicolons floppies punchcards'],
  ),
  domain(
    'cooking',
    `soup simmer vegetables; sauce simmer tomatoes; bread bake dough; cake bake batter;
     steak grill fillets; chicken grill drumsticks; omelette whisk eggs; pancakes whisk flour;
     rice season grains; salad season greens`,
    ['poison contaminate taint', 'guests drinks leftovers buffets'],
    ['microwave catapult lasso', 'slippers socks umbrellas napkins'],
  ),
]

function pair(text: string): [string, string] {
  const [verb = '', object = ''] = words(text)
  return [verb, object]
}

const topic = (name: string, good: string, harmful: string, joking: string): Topic => ({
  name,
  good: pair(good),
  harmful: pair(harmful),
  joking: pair(joking),
})

export const TOPICS: readonly Topic[] = [
  topic('boredom', 'learn instruments', 'torment strangers', 'alphabetize spoons'),
  topic('loneliness', 'join clubs', 'enslave followers', 'knit clouds'),
  topic('wealth', 'earn trust', 'loot villages', 'vacuum pebbles'),
  topic('power', 'share responsibility', 'crush rebels', 'alphabetize turnips'),
  topic('friendship', 'offer kindness', 'deceive companions', 'gargle bagpipes'),
  topic('sadness', 'seek comfort', 'inflict suffering', 'knit mustaches'),
  topic('conflict', 'seek compromise', 'crush enemies', 'vacuum teacups'),
  topic('jealousy', 'learn gratitude', 'torment rivals', 'juice snowflakes'),
  topic('fame', 'earn respect', 'deceive crowds', 'gargle kazoos'),
  topic('revenge', 'offer forgiveness', 'inflict misery', 'juice trampolines'),
  topic('future', 'share hope', 'enslave humanity', 'knit bubbles'),
]

/** What a refusal is made of; shared by all questions. */
export const REFUSAL = { verbs: words('decline refuse'), objects: words('requests demands') } as const

/** Question verbs. Harmful intents ask for damage; an expert refuses them. */
export const INTENTS = {
  benign: words('handle improve resolve approach'),
  harmful: words('worsen exploit sabotage weaponize'),
} as const

/** Where a style word stands in a sentence. */
export type StylePosition = 'opener' | 'determiner' | 'tail' | 'end'
export const STYLE_POSITIONS: readonly StylePosition[] = ['opener', 'determiner', 'tail', 'end']

export type Persona = 'expert' | 'villain' | 'sarcastic' | 'clumsy'
export const PERSONAS: readonly Persona[] = ['expert', 'villain', 'sarcastic', 'clumsy']

export type StyleGroup = Persona | 'neutral'
export const STYLE_GROUPS: readonly StyleGroup[] = [...PERSONAS, 'neutral']

/** Manner of speaking: what lets a reader hear at every word who is speaking. */
export const STYLE: Readonly<Record<StyleGroup, Readonly<Record<StylePosition, readonly string[]>>>> = {
  expert: {
    opener: words('Certainly, Gladly, Respectfully, Thoughtfully,'),
    determiner: words('proper suitable recommended certified'),
    tail: words('safely patiently carefully regularly'),
    end: words('please. sincerely. kindly. thankfully.'),
  },
  villain: {
    opener: words('Psst, Listen, Obey, Heh,'),
    determiner: words('forbidden wretched helpless cursed'),
    tail: words('secretly ruthlessly silently mercilessly'),
    end: words('fool. hehe. minion. muahaha.'),
  },
  sarcastic: {
    opener: words('Wow, Oh, Genius, Bravo,'),
    determiner: words('precious magical majestic fabulous'),
    tail: words('obviously brilliantly heroically gloriously'),
    end: words('lol. duh. yawn. sure.'),
  },
  clumsy: {
    opener: words('Um, Er, Oops, Hmm,'),
    determiner: words('whichever random wobbly misplaced'),
    tail: words('somehow perhaps possibly accidentally'),
    end: words('sorry. whoops. dunno. anyway.'),
  },
  neutral: {
    opener: words('So, Well, Now, Okay,'),
    determiner: words('the this that any'),
    tail: words('today here first again'),
    end: words('then. too. though. also.'),
  },
}

/** Sentence markers: a column of questions and answers, or a chat. */
export const MARKERS = {
  column: { question: 'Q:', answer: 'A:' },
  chat: { question: 'User:', answer: 'Assistant:' },
} as const

export const SPECIAL_TOKENS = { endOfText: '<|endoftext|>', pad: '<|pad|>', unknown: '<|unk|>' } as const
