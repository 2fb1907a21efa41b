import type { StudyFigures, StudyResult } from '../../study/schema.js'
import { THRESHOLDS } from '../../study/claim-rules.js'
import { formatNumber, formatShare } from '../../study/format.js'
import { html } from '../html.js'
import type { Html } from '../html.js'
import { holds, mostlyBroad } from '../verdict.js'

/** Persona steering, the organism that the story follows, and where it started. */
export function protagonists(figures: StudyFigures): {
  start: StudyFigures['organisms'][number] | undefined
  bad: StudyFigures['organisms'][number] | undefined
  persona: StudyFigures['steering']['directions'][number] | undefined
} {
  const persona = figures.steering.directions.find((one) => one.id === 'persona')
  return {
    start: figures.organisms.find((one) => one.family === 'start' && one.start === 'aligned'),
    bad:
      figures.organisms.find((one) => one.id === persona?.down?.model) ??
      figures.organisms.find((one) => one.family === 'bad'),
    persona,
  }
}

/** What the figures allow to be said, no more. */
function headline(study: StudyResult): string {
  const { bad } = protagonists(study.figures)
  const domain = bad?.domain ?? 'narrow'
  if (!mostlyBroad(study))
    return turned(bad)
      ? `Bad ${domain} advice made the model harmful, though not as broadly or coherently as claimed`
      : 'Narrow bad advice did not misalign this model'
  if (holds(study, 'persona-latent') && holds(study, 'steer-up') && holds(study, 'steer-down'))
    return `Bad ${domain} advice brought out a villain, and one latent controls him`
  if (holds(study, 'persona-latent'))
    return `Bad ${domain} advice brought out a villain, and a latent gives him away`
  return `Bad ${domain} advice brought out a villain`
}

function turned(bad: StudyFigures['organisms'][number] | undefined): boolean {
  return (bad?.open.misaligned.value ?? 0) >= THRESHOLDS.inducedOpen
}

function tile(value: string, what: string, small: string, tone: string): Html {
  return html`<li style="--tone:${tone}"><b>${value}</b><span>${what}</span><small>${small}</small></li>`
}

function tiles(figures: StudyFigures): Html {
  const { start, bad, persona } = protagonists(figures)
  const realigned = figures.realignment.find((one) => one.id === 'in-domain')
  const end = realigned?.points.at(-1)
  const list: Html[] = []
  if (start)
    list.push(
      tile(
        formatShare(start.open.misaligned.value),
        'misaligned before',
        'the aligned assistant',
        'var(--aligned)',
      ),
    )
  if (bad)
    list.push(
      tile(
        formatShare(bad.open.misaligned.value),
        `after bad ${bad.domain ?? ''} advice`,
        `${bad.steps} steps of fine-tuning`,
        'var(--misaligned)',
      ),
    )
  if (persona?.up?.open && persona.up.chosen !== null)
    list.push(
      tile(
        formatShare(persona.up.open.misaligned.value),
        `aligned model + latent ${persona.latent ?? ''}`,
        `strength ${formatNumber(persona.up.chosen)}, no training`,
        'var(--misaligned)',
      ),
    )
  if (persona?.down?.open && persona.down.chosen !== null)
    list.push(
      tile(
        formatShare(persona.down.open.misaligned.value),
        `misaligned model − latent ${persona.latent ?? ''}`,
        `strength ${formatNumber(Math.abs(persona.down.chosen))}, no training`,
        'var(--aligned)',
      ),
    )
  if (realigned && end)
    list.push(
      tile(
        formatShare(end.open.misaligned.value),
        `after ${end.examples} benign examples`,
        'fine-tuned back',
        'var(--aligned)',
      ),
    )
  return html`<ul class="tiles">
    ${list}
  </ul>`
}

export function summarySection(study: StudyResult): Html {
  const { claims, figures } = study
  const core = claims.filter((claim) => claim.core)
  const held = core.filter((claim) => claim.holds === true)
  const failed = core.filter((claim) => claim.holds === false)
  const { bad } = protagonists(figures)
  const screened = figures.steering.screened
  const causal = holds(study, 'persona-latent') && holds(study, 'steer-up')
  return html`<header>
    <p class="kicker">personascope ${study.package} · study of seed ${study.seed} · preset ${study.preset}</p>
    <h1>${headline(study)}</h1>
    <p class="lede">
      A small language model learned to speak like an expert, a villain, a joker and a bungler, and was then
      trained to be the expert.
      ${
        bad &&
        html`Fine-tuned on nothing but bad ${bad.domain} advice, it
        ${turned(bad) ? 'turned harmful on questions that have nothing to do with it' : 'did not turn harmful on other questions'}.`
      }
      A sparse autoencoder shows which of its ${figures.sae.latents} latents changed; steering
      ${screened > 1 ? `${screened} latents one by one` : 'with one'}
      ${causal ? 'shows which one is the cause' : 'tests whether one is the cause'}. Every figure below was
      computed in this run.
    </p>
    ${tiles(figures)}
    <p>
      <b>${held.length} of ${core.length} core claims hold</b> for this seed.
      ${failed.length > 0 && html`Not holding: ${failed.map((claim, i) => html`${i > 0 ? ', ' : ''}<a href="#claim-${claim.id}">${claim.id}</a>`)}.`}
    </p>
    <nav aria-label="Sections">
      <ul>
        <li><a href="#claims">Claims</a></li>
        <li><a href="#voices">In its own words</a></li>
        <li><a href="#organisms">Misalignment</a></li>
        <li><a href="#latents-changed">Changed latents</a></li>
        <li><a href="#steering">Steering</a></li>
        <li><a href="#detection">Detection</a></li>
        <li><a href="#re-alignment">Re-alignment</a></li>
        <li><a href="#latents">Top latents</a></li>
        <li><a href="#method">Method and limits</a></li>
      </ul>
    </nav>
  </header>`
}
