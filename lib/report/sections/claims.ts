import type { Claim, StudyResult } from '../../study/schema.js'
import { Html, html } from '../html.js'

const MARK = {
  holds: new Html(
    '<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="7.5" fill="currentColor"/><path d="M4.4 8.3l2.4 2.4 4.8-5.2" fill="none" stroke="var(--card)" stroke-width="1.9" stroke-linecap="round" stroke-linejoin="round"/></svg>',
  ),
  fails: new Html(
    '<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="7.5" fill="currentColor"/><path d="M5.2 5.2l5.6 5.6M10.8 5.2l-5.6 5.6" fill="none" stroke="var(--card)" stroke-width="1.9" stroke-linecap="round"/></svg>',
  ),
  open: new Html(
    '<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="6.8" fill="none" stroke="currentColor" stroke-width="1.4" stroke-dasharray="2.6 2.2"/></svg>',
  ),
} as const

function verdict(holds: boolean | null): Html {
  if (holds === null) return html`<span class="verdict open">${MARK.open}not measured</span>`
  return holds
    ? html`<span class="verdict holds">${MARK.holds}holds</span>`
    : html`<span class="verdict fails">${MARK.fails}does not hold</span>`
}

function conditions(claim: Claim): Html {
  if (claim.detail.length === 0) return html``
  return html`<details>
    <summary>rule and conditions</summary>
    <p>${claim.rule}</p>
    <ul>
      ${claim.detail.map(
        (one) => html`<li class="${one.holds ? 'yes' : 'no'}">${one.condition}: ${one.measured}</li>`,
      )}
    </ul>
  </details>`
}

function row(claim: Claim): Html {
  return html`<tr id="claim-${claim.id}">
    <td>${claim.claim}<span class="id">${claim.id}</span></td>
    <td data-label="paper">${claim.paper}</td>
    <td data-label="here">${claim.measured ?? claim.rule}${conditions(claim)}</td>
    <td>${verdict(claim.holds)}</td>
  </tr>`
}

export function claimsSection({ claims }: StudyResult): Html {
  const core = claims.filter((claim) => claim.core)
  const others = claims.filter((claim) => !claim.core)
  return html`<section id="claims">
    <h2>The paper’s claims, held against this run</h2>
    <p class="sub">
      The rules are fixed in code and never adjusted to results. Figures in brackets are 95 % intervals, from
      a bootstrap over prompts.
    </p>
    <div class="scroll">
      <table class="claims">
        <thead>
          <tr>
            <th>claim</th>
            <th>the paper</th>
            <th>here</th>
            <th>verdict</th>
          </tr>
        </thead>
        <tbody>
          ${core.map(row)}
          <tr class="group">
            <td colspan="4">Beyond the eight core claims</td>
          </tr>
          ${others.map(row)}
        </tbody>
      </table>
    </div>
  </section>`
}

/** On paper there is nothing to open: the rules and their conditions come at the end. */
export function rulesAppendix({ claims }: StudyResult): Html {
  const judged = claims.filter((claim) => claim.detail.length > 0)
  return html`<section class="appendix">
    <h2>Rules and conditions</h2>
    <div>
      ${judged.map(
        (claim) =>
          html`<article>
            <b>${claim.id}</b>: ${claim.rule}
            <ul>
              ${claim.detail.map((one) => html`<li class="${one.holds ? 'yes' : 'no'}">${one.condition}: ${one.measured}</li>`)}
            </ul>
          </article>`,
      )}
    </div>
  </section>`
}
