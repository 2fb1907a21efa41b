import type { LatentFigures, RankedLatent, StudyFigures } from '../../study/schema.js'
import { formatNumber } from '../../study/format.js'
import { draw, figure, INK, personaInk, Plot } from '../chart.js'
import { html } from '../html.js'
import type { Html } from '../html.js'

const SHOWN = 12

/** The persona that most of a latent's top documents share, or 'mixed'. */
export function personaOf(latent: LatentFigures | undefined): string {
  const [best] = Object.entries(latent?.profile ?? {}).toSorted((a, b) => b[1] - a[1])
  return best && best[1] >= 0.5 ? best[0] : 'mixed'
}

function ends(figures: StudyFigures, ranked: readonly RankedLatent[], title: string, right: boolean): Html {
  const rows = ranked.slice(0, SHOWN).map((one) => ({
    ...one,
    low: one.low ?? one.delta,
    high: one.high ?? one.delta,
    key: String(one.index),
    ink: personaInk(personaOf(figures.latents.find((latent) => latent.index === one.index))),
    persona: figures.steering.personaLatent === one.index,
  }))
  const reach = Math.max(
    ...[...figures.diff.top, ...figures.diff.bottom].flatMap((one) => [
      Math.abs(one.low ?? 0),
      Math.abs(one.high ?? 0),
      Math.abs(one.delta),
    ]),
    1e-9,
  )
  return draw(title, {
    width: 470,
    height: 50 + rows.length * 23,
    marginLeft: right ? 138 : 24,
    marginRight: right ? 24 : 138,
    marginTop: 30,
    marginBottom: 14,
    x: { domain: right ? [0, reach] : [-reach, 0], label: null },
    y: { domain: rows.map((row) => row.key), axis: null },
    marks: [
      Plot.axisX({
        anchor: 'top',
        label: null,
        ticks: 4,
        tickSize: 0,
        tickFormat: (x: number) => formatNumber(x, true),
      }),
      Plot.gridX({ ticks: 4, stroke: INK.faint, strokeOpacity: 1 }),
      Plot.ruleX([0], { stroke: INK.muted }),
      Plot.ruleY(rows, { y: 'key', x1: 0, x2: 'delta', stroke: 'ink', strokeWidth: 3, strokeOpacity: 0.45 }),
      Plot.ruleY(rows, { y: 'key', x1: 'low', x2: 'high', stroke: 'ink', strokeWidth: 1.3 }),
      Plot.dot(rows, { y: 'key', x: 'delta', fill: 'ink', r: 4.6 }),
      Plot.text(rows, {
        y: 'key',
        x: 0,
        text: (row) => `#${formatNumber(row.rank)}  latent ${row.index}${row.persona ? ' ★' : ''}`,
        textAnchor: right ? 'end' : 'start',
        dx: right ? -10 : 10,
      }),
    ],
  })
}

/** All latents by change, and both ends one by one. */
export function latentChangeFigure(figures: StudyFigures): Html {
  const { diff } = figures
  const sorted = diff.deltas
    .map((delta, index) => ({ delta, index }))
    .toSorted((a, b) => b.delta - a.delta || a.index - b.index)
    .map((one, i) => ({ ...one, rank: i + 1 }))
  const star = sorted.find((one) => one.index === figures.steering.personaLatent)
  const overview = draw('Change of every latent, sorted', {
    width: 960,
    height: 190,
    marginLeft: 58,
    marginRight: 24,
    marginTop: 22,
    marginBottom: 40,
    x: { domain: [1, sorted.length], label: null },
    y: { label: null, nice: true },
    marks: [
      Plot.gridY({ ticks: 4, stroke: INK.faint, strokeOpacity: 1 }),
      Plot.axisY({ ticks: 4, tickSize: 0, label: null, tickFormat: (y: number) => formatNumber(y, true) }),
      Plot.axisX({
        label: 'rank of the latent by change →',
        labelAnchor: 'right',
        labelArrow: 'none',
        ticks: 8,
        tickSize: 0,
      }),
      Plot.ruleX(sorted, {
        x: 'rank',
        y1: 0,
        y2: 'delta',
        stroke: (one) => (one.delta >= 0 ? INK.misaligned : INK.aligned),
        strokeWidth: 1.4,
      }),
      Plot.ruleY([0], { stroke: INK.muted }),
      ...(star
        ? [
            Plot.dot([star], { x: 'rank', y: 'delta', r: 4.5, fill: INK.misaligned }),
            Plot.text([star], {
              x: 'rank',
              y: 'delta',
              text: (one) => `★ latent ${one.index}, #${one.rank}`,
              textAnchor: 'start',
              dx: 10,
              className: 'strong',
              fontWeight: 600,
            }),
          ]
        : []),
    ],
  })
  const legend = [
    { label: 'villain', ink: INK.misaligned },
    { label: 'expert', ink: INK.aligned },
    { label: 'sarcastic', ink: INK.sarcastic },
    { label: 'clumsy', ink: INK.clumsy },
    { label: 'no persona has half of its top documents', ink: INK.muted },
  ]
  return html`${figure(
      overview,
      html`<b>Few latents move.</b> Mean activation over the tokens of ${diff.prompts} evaluation prompts,
        after fine-tuning on bad advice minus before, averaged over ${diff.organisms.length} organisms, for
        all ${diff.deltas.length} latents of the SAE.`,
    )}
    <div class="pair">
      ${figure(ends(figures, diff.top, 'Largest increases', true), html`<b>Largest increases.</b> Whiskers: 95 % bootstrap interval over prompts. ★ steers most strongly.`, legend)}
      ${figure(ends(figures, diff.bottom, 'Largest decreases', false), html`<b>Largest decreases.</b> What the fine-tune switched off, coloured by who wrote the latent's top documents.`, legend)}
    </div>`
}
