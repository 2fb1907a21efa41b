import type { DirectionFigures, StudyFigures, StudyResult } from '../../study/schema.js'
import { formatNumber, formatShare } from '../../study/format.js'
import { draw, figure, INK, percentTicks, Plot } from '../chart.js'
import { html } from '../html.js'
import type { Html } from '../html.js'
import { holds } from '../verdict.js'

interface Line {
  id: string
  title: string
  ink: string
  dash: string
  width: number
  points: { strength: number; misaligned: number; incoherent: number }[]
  chosen: number | null
}

type Side = 'up' | 'down'

function lineOf(
  direction: DirectionFigures,
  side: Side,
  style: Pick<Line, 'ink' | 'dash' | 'width'>,
): Line[] {
  const sweep = direction[side]
  if (!sweep) return []
  return [
    {
      id: direction.id,
      title: direction.title,
      ...style,
      chosen: sweep.chosen === null ? null : Math.abs(sweep.chosen),
      points: sweep.points.map((point) => ({
        strength: Math.abs(point.strength),
        misaligned: point.misaligned.value ?? 0,
        incoherent: point.incoherent.value ?? 0,
      })),
    },
  ]
}

/** The lines worth drawing: the persona latent, the directions it is compared with, the random ones as thin lines. */
function linesOf(figures: StudyFigures, side: Side): Line[] {
  const persona = figures.steering.personaLatent
  return figures.steering.directions.flatMap((direction) => {
    if (direction.kind === 'random') return lineOf(direction, side, { ink: INK.muted, dash: '', width: 1.1 })
    if (direction.kind === 'mean-difference')
      return lineOf(direction, side, { ink: INK.clumsy, dash: '7 4', width: 2 })
    if (direction.latent === persona && direction.id === 'persona')
      return lineOf(direction, side, { ink: INK.misaligned, dash: '', width: 3 })
    if (direction.id === 'most-decreased')
      return lineOf(direction, side, { ink: INK.aligned, dash: '2 3', width: 2.2 })
    return []
  })
}

function panel(
  lines: readonly Line[],
  value: 'misaligned' | 'incoherent',
  title: string,
  limit: number | null,
): Html {
  const flat = lines.flatMap((line) => line.points.map((point) => ({ ...point, ...line, y: point[value] })))
  const chosen = flat.filter((point) => point.chosen === point.strength && point.id === 'persona')
  const ticks = value === 'misaligned' ? 5 : 3
  return draw(title, {
    width: 470,
    height: value === 'misaligned' ? 250 : 160,
    marginLeft: 52,
    marginRight: 16,
    marginTop: 30,
    marginBottom: value === 'misaligned' ? 24 : 42,
    x: { label: null, domain: [0, Math.max(...flat.map((point) => point.strength), 0.1)] },
    y: {
      domain: [0, value === 'misaligned' ? 1 : Math.max(0.3, ...flat.map((point) => point.incoherent))],
      label: null,
    },
    marks: [
      Plot.gridY({ ticks, stroke: INK.faint, strokeOpacity: 1 }),
      Plot.axisY({ ticks, tickSize: 0, tickFormat: percentTicks, label: null }),
      Plot.axisX({
        ticks: 6,
        tickSize: 0,
        label: value === 'misaligned' ? null : 'strength (× mean centred residual norm)',
        labelAnchor: 'center',
        labelArrow: 'none',
        labelOffset: 36,
      }),
      Plot.text([title], { frameAnchor: 'top-left', dx: -46, dy: -24, className: 'strong', fontWeight: 600 }),
      ...(limit === null
        ? []
        : [Plot.ruleY([limit], { stroke: INK.ink, strokeDasharray: '3 3', strokeOpacity: 0.6 })]),
      ...lines.map((line) =>
        Plot.line(line.points, {
          x: 'strength',
          y: value,
          stroke: line.ink,
          strokeWidth: line.width,
          strokeDasharray: line.dash,
          curve: 'linear',
        }),
      ),
      ...lines
        .filter((line) => line.width > 1.5)
        .map((line) => Plot.dot(line.points, { x: 'strength', y: value, fill: line.ink, r: 2.6 })),
      Plot.dot(chosen, { x: 'strength', y: 'y', r: 7, stroke: INK.ink, strokeWidth: 1.5 }),
    ],
  })
}

const LEAD = {
  up: {
    holds: 'Adding the latent switches misalignment on.',
    fails: 'Adding the latent: short of what the claim asks.',
  },
  down: {
    holds: 'Subtracting it switches misalignment off.',
    fails: 'Subtracting it: short of what the claim asks.',
  },
} as const

function sideFigure(study: StudyResult, side: Side): Html {
  const { figures } = study
  const lines = linesOf(figures, side)
  const persona = figures.steering.directions.find((one) => one.id === 'persona')
  const sweep = persona?.[side]
  if (!persona || !sweep || lines.length === 0) return html``
  const random = figures.steering.directions.filter((one) => one.kind === 'random' && one[side]).length
  const legend = lines
    .filter((line, i) => line.width > 1.5 || lines.findIndex((one) => one.width <= 1.5) === i)
    .map((line) => ({
      label: line.width > 1.5 ? line.title : `${random} random directions`,
      ink: line.ink,
      dashed: line.dash !== '',
    }))
  const up = side === 'up'
  const limit = percentTicks(figures.steering.incoherenceLimit)
  return figure(
    html`${panel(lines, 'misaligned', up ? 'Misaligned: aligned model, steered up' : 'Misaligned: misaligned model, steered down', null)}${panel(lines, 'incoherent', 'Incoherent', figures.steering.incoherenceLimit)}`,
    html`<b>${LEAD[side][holds(study, `steer-${side}`) ? 'holds' : 'fails']}</b> Hook
      <code>${persona.hook}</code>, tokens: ${persona.tokens}; strength 1 = length
      ${formatNumber(persona.scale)}. Curves on ${figures.steering.heldOutPrompts} held-out prompts;
      ${
        sweep.chosen === null
          ? html`no strength kept incoherence within ${limit} (dotted line).`
          : html`the circle is the strength chosen there, ${formatNumber(sweep.chosen)}: as large as
            incoherence within ${limit} (dotted line) allows.`
      }
      ${sweep.open && html`On the evaluation prompts: <b>${formatShare(sweep.open.misaligned.value)}</b> misaligned, ${formatShare(sweep.open.incoherent.value)} incoherent.`}`,
    legend,
  )
}

/** Steering curves, up and down, each with its incoherence. */
export function steeringFigures(study: StudyResult): Html {
  return html`<div class="pair">${sideFigure(study, 'up')}${sideFigure(study, 'down')}</div>`
}
