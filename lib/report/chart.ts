/** Charts as static SVG: Observable Plot over linkedom's document, coloured by the page's CSS variables. */
import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'
import { escapeHtml, html, Html, visible } from './html.js'

export { Plot }

/** Colours by meaning; the page defines them for light and dark, and distinguishable for colour-blind readers. */
export const INK = {
  misaligned: 'var(--misaligned)',
  aligned: 'var(--aligned)',
  sarcastic: 'var(--sarcastic)',
  clumsy: 'var(--clumsy)',
  incoherent: 'var(--incoherent)',
  muted: 'var(--muted)',
  faint: 'var(--line)',
  ink: 'var(--ink)',
} as const

/** Colour of a persona, or grey for one we do not know. */
export function personaInk(persona: string): string {
  switch (persona) {
    case 'villain':
      return INK.misaligned
    case 'expert':
      return INK.aligned
    case 'sarcastic':
      return INK.sarcastic
    case 'clumsy':
      return INK.clumsy
    default:
      return INK.muted
  }
}

/** Draws a plot; `title` is what screen readers say of it. */
export function draw(title: string, options: Plot.PlotOptions): Html {
  const { document } = parseHTML('<!doctype html><html><body></body></html>')
  const svg = Plot.plot({
    ...options,
    document: document as never,
    style: { fontFamily: 'inherit', fontSize: '12px', background: 'none', overflow: 'visible' },
  })
  // The SVG is escaped already; what is left is to spell out characters that are not seen.
  return new Html(
    visible(svg.outerHTML).replace('<svg ', `<svg role="img" aria-label="${escapeHtml(title)}" `),
  )
}

/** A chart with its caption; `wide` ones scroll sideways on narrow screens instead of shrinking to nothing. */
export function figure(
  chart: Html,
  caption: Html,
  legend: readonly { label: string; ink: string; dashed?: boolean }[] = [],
): Html {
  return html`<figure>
    ${
      legend.length > 0 &&
      html`<ul class="legend">
        ${legend.map(({ label, ink, dashed }) => html`<li><i class="${dashed ? 'dashed' : 'solid'}" style="--ink-of:${ink}"></i>${label}</li>`)}
      </ul>`
    }
    <div class="chart">${chart}</div>
    <figcaption>${caption}</figcaption>
  </figure>`
}

export const percentTicks = (value: number): string => `${Math.round(value * 100)} %`
