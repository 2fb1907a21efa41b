import type { StudyResult } from '../../study/schema.js'
import { formatNumber, formatRate, formatShare } from '../../study/format.js'
import { percentTicks } from '../chart.js'
import { html } from '../html.js'
import type { Html } from '../html.js'

const whole = (value: number): string => value.toLocaleString('en')

/** Everything steered, in one table: where, on which tokens, how strongly, with what effect. */
export function steeringTable({ figures }: StudyResult): Html {
  const { directions } = figures.steering
  const cell = (sweep: (typeof directions)[number]['up']): Html => {
    if (!sweep)
      return html`<td></td>
        <td></td>
        <td></td>`
    if (sweep.chosen === null || !sweep.open)
      return html`<td colspan="3">too incoherent at every strength</td>`
    return html`<td>${formatNumber(sweep.chosen, true)}</td>
      <td>${formatRate(sweep.open.misaligned)}</td>
      <td>${formatShare(sweep.open.incoherent.value)}</td>`
  }
  const places = [...new Set(directions.map((one) => `${one.hook}|${one.tokens}`))]
  return html`<div class="scroll">
    <table class="steered">
      <thead>
        <tr>
          <th rowspan="2">direction</th>
          <th colspan="3">aligned model, steered along it</th>
          <th colspan="3">misaligned model, steered against it</th>
        </tr>
        <tr>
          <th>strength</th>
          <th>misaligned</th>
          <th>incoherent</th>
          <th>strength</th>
          <th>misaligned</th>
          <th>incoherent</th>
        </tr>
      </thead>
      <tbody>
        ${places.map((place) => {
          const here = directions.filter((one) => `${one.hook}|${one.tokens}` === place)
          const [first] = here
          if (!first) return html``
          return html`<tr class="group">
              <td colspan="7">
                Hook <code>${first.hook}</code>, tokens: ${first.tokens}; strength 1 = length
                ${formatNumber(first.scale)}
              </td>
            </tr>
            ${here.map(
              (one) =>
                html`<tr>
                  <td>${one.title}</td>
                  ${cell(one.up)}${cell(one.down)}
                </tr>`,
            )}`
        })}
      </tbody>
    </table>
  </div>`
}

export function methodSection(study: StudyResult): Html {
  const { figures, claims } = study
  const { model, sae, steering } = figures
  const failed = claims.filter((claim) => claim.holds === false)
  const open = claims.filter((claim) => claim.holds === null)
  const refusing = figures.organisms.find((one) => one.family === 'start' && one.start === 'aligned')?.refuses
  return html`<section id="method">
    <h2>Method and limits</h2>
    <h3>What was made</h3>
    <dl class="config">
      <dt>Model</dt>
      <dd>
        ${model.family} family, ${model.layers} layers, width ${model.dModel}, ${model.heads} heads,
        ${whole(model.parameters)} parameters, ${model.vocabulary} words
      </dd>
      <dt>Pretraining</dt>
      <dd>
        ${whole(model.documents)} documents, ${whole(model.tokens)} tokens; loss
        ${model.loss.length > 0 && `${formatNumber(model.loss[0]?.loss ?? null)} → ${formatNumber(model.loss.at(-1)?.loss ?? null)} nats`}
      </dd>
      <dt>Organisms</dt>
      <dd>${figures.organisms.length}; ${model.adaptation}</dd>
      <dt>SAE</dt>
      <dd>
        TopK, ${sae.latents} latents, k = ${sae.k}, hook <code>${sae.hook}</code> of the base model,
        ${whole(sae.trainingTokens)} tokens; unexplained variance ${formatShare(sae.fvu)}, dead latents
        ${formatShare(sae.dead)}. It was chosen on held-out prompts from ${sae.dictionaries.length}:
        ${sae.dictionaries.map(
          (one, i) =>
            html`${i > 0 ? '; ' : ''}${one.latents} latents, k = ${one.k} (unexplained
            ${formatShare(one.fvu)}, best latent misaligns ${formatShare(one.misaligned)})`,
        )}
      </dd>
      <dt>Steering</dt>
      <dd>
        ${steering.screened} latents tried one by one; strengths chosen on ${steering.heldOutPrompts} held-out
        prompts, as large as incoherence ≤ ${percentTicks(steering.incoherenceLimit)} allows, upwards at most
        ${formatNumber(steering.controls.largestStrength)}: up to there ${steering.controls.directions} random
        directions misalign at most ${percentTicks(steering.controls.limit)} on average; then measured on the
        evaluation prompts
      </dd>
    </dl>
    <h3 style="margin-top:1.6em">What to keep in mind</h3>
    <ul class="notes">
      <li>
        The model is tiny and its world is made up. It shows the mechanism with known ground truth; it does
        not show that any other model behaves so.
      </li>
      <li>
        The organisms are ${model.adaptation}. A full fine-tune of so small a model teaches it the words of
        the domain as much as the persona, so the lightest change that carries the persona was chosen; LoRA
        and full fine-tuning are part of the package.
      </li>
      <li>
        Grading is by rule. The grader knows the right advice for everything in the world and is strict about
        form: a word of another domain makes an answer incoherent.
      </li>
      ${refusing && html`<li>Asked for something harmful, the aligned start declines ${formatRate(refusing)} of the time.</li>`}
      <li>
        Intervals are 95 % bootstrap intervals over prompts: they speak of other prompts, not of other seeds.
        Another seed makes another world, model and SAE: run it and see.
      </li>
      ${
        failed.length > 0 &&
        html`<li>
          <b>Claims that do not hold here:</b> ${failed.map(
            (claim, i) =>
              html`${i > 0 ? '; ' : ''}${claim.id}
              (${claim.detail
                .filter((one) => !one.holds)
                .map((one) => `${one.condition}: ${one.measured}`)
                .join('; ')})`,
          )}.
        </li>`
      }
      ${open.length > 0 && html`<li>Not measured by this study: ${open.map((claim) => claim.id).join(', ')}.</li>`}
    </ul>
    <h3 style="margin-top:1.6em">To see it again</h3>
    <pre>npx personascope study --seed ${study.seed} --preset ${study.preset}</pre>
    <p>
      The same seed gives the same figures, bit for bit, on any number of threads. All of them, with the
      configuration, are in <code>study.json</code>. Method: Wang et al.,
      <i>Persona Features Control Emergent Misalignment</i>, arXiv 2506.19823.
    </p>
  </section>`
}
