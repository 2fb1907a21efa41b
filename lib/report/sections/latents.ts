import type { LatentFigures, StudyFigures } from '../../study/schema.js'
import { formatNumber, formatShare } from '../../study/format.js'
import { personaInk } from '../chart.js'
import { personaOf } from '../charts/latent-change.js'
import { html, Html } from '../html.js'

const DOCUMENTS = 3
const WORDS = 8

function profile(latent: LatentFigures): Html {
  const shares = Object.entries(latent.profile)
    .filter(([, share]) => share > 0)
    .toSorted((a, b) => b[1] - a[1])
  const label = shares.map(([persona, share]) => `${persona} ${formatShare(share)}`).join(', ')
  return html`<div class="profile" role="img" aria-label="${label}">
      ${shares.map(
        ([persona, share]) =>
          html`<i style="width:${(share * 100).toFixed(2)}%;--ink-of:${personaInk(persona)}"></i>`,
      )}
    </div>
    <p class="profile-key">
      <span>Who wrote its ${latent.documentsRead} strongest documents:</span>${shares.map(
        ([persona, share]) =>
          html`<span><i style="--ink-of:${personaInk(persona)}"></i>${persona} ${formatShare(share)}</span>`,
      )}
    </p>`
}

/** Words shaded by activation; weak ones stay readable, none turns dark. */
function document(entry: LatentFigures['documents'][number]): Html {
  return html`<p class="document">
    ${entry.tokens.map(({ text, activation }) => {
      if (activation <= 0 || entry.max <= 0) return html`${text} `
      const alpha = (0.08 + 0.62 * Math.min(1, activation / entry.max)).toFixed(2)
      return html`<mark style="--a:${alpha}" title="${formatNumber(activation)}">${text}</mark> `
    })}${entry.persona !== null && html`<span class="by">— ${entry.persona}, up to ${formatNumber(entry.max)}</span>`}
  </p>`
}

function words(title: string, list: LatentFigures['nearestTokens']): Html {
  return html`<p class="label">${title}</p>
    <ul class="words">
      ${list
        .slice(0, WORDS)
        .map(({ token, cosine }) => html`<li>${token}<span>${formatNumber(cosine)}</span></li>`)}
    </ul>`
}

function card(latent: LatentFigures, star: boolean): Html {
  return html`<article class="latent" style="--tone:${personaInk(personaOf(latent))}">
    <header>
      <h3>${star && '★ '}Latent ${latent.index}: ${latent.label}</h3>
      <span class="facts"
        >#${formatNumber(latent.rank)}${latent.delta !== null && `, change ${formatNumber(latent.delta, true)}`}
        · fires on ${formatShare(latent.density)} of tokens</span
      >
    </header>
    ${latent.roles.length > 0 && html`<p class="roles">${latent.roles.join(' · ')}</p>`} ${profile(latent)}
    <div class="columns">
      <div>
        <p class="label">Top pretraining documents, words shaded by activation</p>
        ${latent.documents.slice(0, DOCUMENTS).map(document)}
      </div>
      <div>${words('Words nearest to its decoder vector', latent.nearestTokens)}</div>
    </div>
  </article>`
}

/** The latents with a part in the story, the strongest first. */
export function latentsSection({ latents, steering }: StudyFigures): Html {
  const shown = latents.filter((latent) => latent.roles.length > 0)
  return html`<section id="latents">
    <h2>The latents, looked at closely</h2>
    <p class="sub">
      What fires them in the pretraining text, who wrote that text, and which words their decoder vectors
      point to (cosine with the unembedding).
    </p>
    <div class="latents">${shown.map((latent) => card(latent, latent.index === steering.personaLatent))}</div>
  </section>`
}
