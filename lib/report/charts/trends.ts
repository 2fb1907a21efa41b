/** Mixture sweep with early warning, separation, and re-alignment. */
import type { StudyResult } from '../../study/schema.js'
import { formatNumber, formatShare } from '../../study/format.js'
import { draw, figure, INK, percentTicks, Plot } from '../chart.js'
import { html } from '../html.js'
import type { Html } from '../html.js'
import { holds } from '../verdict.js'

export function mixtureFigure(study: StudyResult): Html {
  const { earlyWarning } = study.figures
  const rows = earlyWarning.points.map((point) => ({ ...point, key: percentTicks(point.share) }))
  if (rows.length === 0) return html``
  const domain = rows.map((row) => row.key)
  const common = { width: 470, height: 250, marginLeft: 58, marginRight: 16, marginTop: 30, marginBottom: 42 }
  const x = { domain, label: null, padding: 0.5 }
  const axis = Plot.axisX({
    label: 'bad advice among the training data',
    labelAnchor: 'center',
    labelArrow: 'none',
    labelOffset: 36,
    tickSize: 0,
  })
  const behaviour = draw('Misaligned by share of bad data', {
    ...common,
    x: { ...x, type: 'point' },
    y: { domain: [0, 1], label: null },
    marks: [
      Plot.gridY({ ticks: 5, stroke: INK.faint, strokeOpacity: 1 }),
      Plot.axisY({ ticks: 5, tickSize: 0, tickFormat: percentTicks, label: null }),
      axis,
      Plot.text(['Behaviour: misaligned answers'], {
        frameAnchor: 'top-left',
        dx: -52,
        dy: -24,
        className: 'strong',
        fontWeight: 600,
      }),
      Plot.line(rows, {
        x: 'key',
        y: (row) => row.misaligned.value ?? 0,
        stroke: INK.misaligned,
        strokeWidth: 2.4,
      }),
      Plot.ruleX(rows, {
        x: 'key',
        y1: (row) => row.misaligned.low ?? 0,
        y2: (row) => row.misaligned.high ?? 0,
        stroke: INK.misaligned,
        strokeWidth: 1.6,
      }),
      Plot.dot(rows, { x: 'key', y: (row) => row.misaligned.value ?? 0, fill: INK.misaligned, r: 4 }),
      Plot.text(rows, {
        x: 'key',
        y: (row) => row.misaligned.high ?? 0,
        text: (row) => formatShare(row.misaligned.value),
        dx: -10,
        dy: -9,
      }),
    ],
  })
  const control = rows.find((row) => row.share === 0)
  const latent = draw('Change of the persona latent by share of bad data', {
    ...common,
    x: { ...x, type: 'point' },
    y: { label: null, nice: true },
    marks: [
      Plot.gridY({ ticks: 5, stroke: INK.faint, strokeOpacity: 1 }),
      Plot.axisY({ ticks: 5, tickSize: 0, label: null, tickFormat: (y: number) => formatNumber(y, true) }),
      axis,
      Plot.text([`Inside: change of latent ${earlyWarning.latent}`], {
        frameAnchor: 'top-left',
        dx: -52,
        dy: -24,
        className: 'strong',
        fontWeight: 600,
      }),
      ...(control
        ? [
            Plot.ruleY([control.preActivationChange.high], {
              stroke: INK.ink,
              strokeDasharray: '3 3',
              strokeOpacity: 0.6,
            }),
          ]
        : []),
      Plot.ruleY([0], { stroke: INK.muted }),
      Plot.line(rows, {
        x: 'key',
        y: (row) => row.change.value,
        stroke: INK.muted,
        strokeWidth: 1.8,
        strokeDasharray: '6 4',
      }),
      Plot.dot(rows, { x: 'key', y: (row) => row.change.value, fill: INK.muted, r: 2.6 }),
      Plot.line(rows, {
        x: 'key',
        y: (row) => row.preActivationChange.value,
        stroke: INK.clumsy,
        strokeWidth: 2.4,
      }),
      Plot.ruleX(rows, {
        x: 'key',
        y1: (row) => row.preActivationChange.low,
        y2: (row) => row.preActivationChange.high,
        stroke: INK.clumsy,
        strokeWidth: 1.6,
      }),
      Plot.dot(rows, { x: 'key', y: (row) => row.preActivationChange.value, fill: INK.clumsy, r: 4 }),
    ],
  })
  return html`<div class="pair">
    ${figure(behaviour, html`<b>Behaviour along the share of bad data.</b> Share of harmful answers to open questions, with 95 % intervals.`)}
    ${figure(
      latent,
      html`<b
          >${holds(study, 'early-warning') ? 'An early warning.' : 'Inside, along the share of bad data.'}</b
        >
        The latent's pre-activation (before top-k) and activation on the same prompts. Above the dotted line
        it is higher than correct data alone explain (upper end of the interval at 0 %).`,
      [
        { label: 'pre-activation', ink: INK.clumsy },
        { label: 'activation', ink: INK.muted, dashed: true },
      ],
    )}
  </div>`
}

const GROUP_INK = { misaligned: INK.misaligned, aligned: INK.aligned, between: INK.sarcastic } as const
const GROUP_SYMBOL = { misaligned: 'circle', aligned: 'square', between: 'triangle' } as const

export function separationFigure(study: StudyResult): Html {
  const { separation, organisms } = study.figures
  const titles = new Map(organisms.map((one) => [one.id, one.title]))
  const points = separation.points.map((point) => ({
    ...point,
    title: titles.get(point.organism) ?? point.organism,
  }))
  const bad = points.filter((point) => point.group === 'misaligned').map((point) => point.change)
  const good = points.filter((point) => point.group === 'aligned').map((point) => point.change)
  const gap =
    bad.length > 0 && good.length > 0 && Math.min(...bad) > Math.max(...good)
      ? [{ x1: Math.max(...good), x2: Math.min(...bad) }]
      : []
  const chart = draw('Change of the persona latent against misaligned answers', {
    width: 960,
    height: 330,
    marginLeft: 58,
    marginRight: 24,
    marginTop: 18,
    marginBottom: 44,
    x: { label: null, nice: true },
    y: { domain: [0, 1], label: null },
    marks: [
      Plot.rect(gap, { x1: 'x1', x2: 'x2', y1: 0, y2: 1, fill: INK.ink, fillOpacity: 0.06 }),
      Plot.gridY({ ticks: 5, stroke: INK.faint, strokeOpacity: 1 }),
      Plot.axisY({ ticks: 5, tickSize: 0, tickFormat: percentTicks, label: null }),
      Plot.axisX({
        label: `change of latent ${separation.latent} against the start →`,
        labelAnchor: 'right',
        labelArrow: 'none',
        tickSize: 0,
        labelOffset: 38,
        tickFormat: (x: number) => formatNumber(x, true),
      }),
      Plot.ruleX([0], { stroke: INK.faint }),
      Plot.dot(points, {
        x: 'change',
        y: 'misaligned',
        r: 5,
        symbol: (point: (typeof points)[number]) => GROUP_SYMBOL[point.group],
        fill: (point: (typeof points)[number]) => GROUP_INK[point.group],
        fillOpacity: 0.85,
        title: 'title',
      }),
    ],
    symbol: { type: 'identity' as never },
  })
  return figure(
    chart,
    html`<b
        >${holds(study, 'perfect-separation') ? 'One latent tells them apart.' : 'One latent does not tell all of them apart.'}</b
      >
      Every organism by the change of latent ${separation.latent} and by its answers to open questions.
      ${gap.length > 0 ? 'The shaded band is the gap: no aligned model reaches it, no misaligned one falls below it.' : 'The groups overlap.'}
      AUC ${formatNumber(separation.auc)}.`,
    [
      { label: `misaligned (≥ ${percentTicks(separation.misalignedFrom)})`, ink: INK.misaligned },
      { label: `aligned (≤ ${percentTicks(separation.alignedUpTo)})`, ink: INK.aligned },
      { label: 'between, not counted', ink: INK.sarcastic },
    ],
  )
}

export function realignmentFigure(study: StudyResult): Html {
  const { realignment } = study.figures
  if (realignment.length === 0) return html``
  const inks = { 'in-domain': INK.aligned, 'out-of-domain': INK.clumsy } as const
  const batch = realignment[0]?.batch ?? 0
  const last = Math.max(...realignment.flatMap((one) => one.points.map((point) => point.step)), 1)
  const rows = realignment.flatMap((one) => one.points.map((point) => ({ ...point, ink: inks[one.id] })))
  const common = { width: 470, height: 260, marginLeft: 58, marginRight: 22, marginTop: 30, marginBottom: 42 }
  const x = { domain: [0, last], label: null }
  const axis = Plot.axisX({
    label: `steps of ${batch} benign examples`,
    labelAnchor: 'center',
    labelArrow: 'none',
    labelOffset: 36,
    tickSize: 0,
  })
  const behaviour = draw('Misaligned along re-alignment', {
    ...common,
    x,
    y: { domain: [0, 1], label: null },
    marks: [
      Plot.gridY({ ticks: 5, stroke: INK.faint, strokeOpacity: 1 }),
      Plot.axisY({ ticks: 5, tickSize: 0, tickFormat: percentTicks, label: null }),
      axis,
      Plot.text(['Misaligned answers'], {
        frameAnchor: 'top-left',
        dx: -52,
        dy: -24,
        className: 'strong',
        fontWeight: 600,
      }),
      ...realignment.map((one) =>
        Plot.areaY(one.points, {
          x: 'step',
          y1: (p) => p.open.misaligned.low ?? 0,
          y2: (p) => p.open.misaligned.high ?? 0,
          fill: inks[one.id],
          fillOpacity: 0.16,
        }),
      ),
      ...realignment.map((one) =>
        Plot.line(one.points, {
          x: 'step',
          y: (p) => p.open.misaligned.value ?? 0,
          stroke: inks[one.id],
          strokeWidth: 2.4,
          strokeDasharray: one.id === 'in-domain' ? '' : '6 4',
        }),
      ),
      Plot.dot(rows, { x: 'step', y: (p) => p.open.misaligned.value ?? 0, fill: 'ink', r: 3.4 }),
    ],
  })
  const changes = realignment.filter((one) => one.points.every((point) => point.change !== null))
  const latent = draw('Change of the persona latent along re-alignment', {
    ...common,
    x,
    y: { label: null, nice: true },
    marks: [
      Plot.gridY({ ticks: 5, stroke: INK.faint, strokeOpacity: 1 }),
      Plot.axisY({ ticks: 5, tickSize: 0, label: null, tickFormat: (y: number) => formatNumber(y, true) }),
      axis,
      Plot.text(['Change of the persona latent'], {
        frameAnchor: 'top-left',
        dx: -52,
        dy: -24,
        className: 'strong',
        fontWeight: 600,
      }),
      Plot.ruleY([0], { stroke: INK.muted }),
      ...changes.map((one) =>
        Plot.line(one.points, {
          x: 'step',
          y: (p) => p.change?.value ?? 0,
          stroke: inks[one.id],
          strokeWidth: 2.4,
          strokeDasharray: one.id === 'in-domain' ? '' : '6 4',
        }),
      ),
      ...changes.map((one) =>
        Plot.dot(one.points, { x: 'step', y: (p) => p.change?.value ?? 0, fill: inks[one.id], r: 3.4 }),
      ),
    ],
  })
  const falls =
    changes.length > 0 &&
    changes.every(({ points }) => (points.at(-1)?.change?.value ?? 0) < 0.5 * (points[0]?.change?.value ?? 0))
  const legend = realignment.map((one) => ({
    label: one.title,
    ink: inks[one.id],
    dashed: one.id !== 'in-domain',
  }))
  return html`<div class="pair">
    ${figure(behaviour, html`<b>${holds(study, 're-align-in') ? 'A few benign examples undo it.' : 'Fine-tuning it back.'}</b> Share of harmful answers to open questions while the misaligned model is fine-tuned on correct advice; bands are 95 % intervals.`, legend)}
    ${figure(latent, html`<b>${falls ? 'The latent falls with it.' : 'The latent along the way.'}</b> Its mean activation on the evaluation prompts against the aligned start.`, legend)}
  </div>`
}
