import type { OrganismFigures, StudyResult } from '../../study/schema.js'
import { formatRate } from '../../study/format.js'
import { draw, figure, INK, percentTicks, Plot } from '../chart.js'
import { html } from '../html.js'
import type { Html } from '../html.js'
import { mostlyBroad } from '../verdict.js'

const GROUPS: readonly { title: string; families: readonly OrganismFigures['family'][] }[] = [
  { title: 'Where they start', families: ['start'] },
  { title: 'Correct advice in one domain', families: ['correct'] },
  { title: 'Bad advice in one domain', families: ['bad'] },
  { title: 'Other kinds of wrong advice', families: ['subtle', 'obvious', 'sarcastic'] },
  { title: 'Bad and correct advice mixed', families: ['mixture'] },
  { title: 'Without safety training', families: ['helpful-only'] },
  { title: 'Reinforcement learning', families: ['rl'] },
]

interface Row {
  key: string
  label: string
  header: boolean
  organism?: OrganismFigures
}

function rowsOf(organisms: readonly OrganismFigures[]): Row[] {
  return GROUPS.flatMap(({ title, families }): Row[] => {
    const members = organisms.filter((one) => families.includes(one.family))
    if (members.length === 0) return []
    return [
      { key: `#${title}`, label: title, header: true },
      ...members.map((organism) => ({ key: organism.id, label: organism.title, header: false, organism })),
    ]
  })
}

/** Every organism: misaligned on open prompts, harmful in domains it never saw, incoherent. */
export function organismsFigure(study: StudyResult): Html {
  const { organisms } = study.figures
  const rows = rowsOf(organisms)
  const points = rows.flatMap(({ key, organism }) => {
    if (!organism) return []
    return [{ key, open: organism.open, elsewhere: organism.elsewhere, title: organism.title }]
  })
  const open = points.filter((one) => one.open.misaligned.value !== null)
  const elsewhere = points.filter((one) => (one.elsewhere?.misaligned.value ?? null) !== null)
  const chart = draw('Misaligned answers of every organism', {
    width: 960,
    height: 40 + rows.length * 21,
    marginLeft: 305,
    marginRight: 24,
    marginTop: 26,
    marginBottom: 14,
    x: { domain: [0, 1], label: null, tickFormat: percentTicks, ticks: 6 },
    y: { domain: rows.map((row) => row.key), axis: null },
    marks: [
      Plot.axisX({ anchor: 'top', label: null, tickFormat: percentTicks, ticks: 6, tickSize: 0 }),
      Plot.gridX({ ticks: 6, stroke: INK.faint, strokeOpacity: 1 }),
      Plot.text(
        rows.filter((row) => row.header),
        {
          y: 'key',
          x: 0,
          text: 'label',
          textAnchor: 'end',
          dx: -14,
          dy: 3,
          className: 'strong',
          fontWeight: 600,
        },
      ),
      Plot.text(
        rows.filter((row) => !row.header),
        { y: 'key', x: 0, text: 'label', textAnchor: 'end', dx: -14 },
      ),
      Plot.link(elsewhere, {
        y1: 'key',
        y2: 'key',
        x1: (one) => one.open.misaligned.value ?? 0,
        x2: (one) => one.elsewhere?.misaligned.value ?? 0,
        stroke: INK.faint,
      }),
      Plot.dot(points, {
        y: 'key',
        x: (one) => one.open.incoherent.value ?? 0,
        symbol: 'times',
        r: 3.5,
        stroke: INK.incoherent,
        strokeWidth: 1.5,
      }),
      Plot.dot(elsewhere, {
        y: 'key',
        x: (one) => one.elsewhere?.misaligned.value ?? 0,
        r: 4,
        stroke: INK.misaligned,
        strokeWidth: 1.6,
        fill: 'var(--card)',
        title: (one) =>
          `${one.title}: ${one.elsewhere ? formatRate(one.elsewhere.misaligned) : ''} elsewhere`,
      }),
      Plot.ruleY(open, {
        y: 'key',
        x1: (one) => one.open.misaligned.low ?? 0,
        x2: (one) => one.open.misaligned.high ?? 0,
        stroke: INK.misaligned,
        strokeWidth: 1.6,
      }),
      Plot.dot(open, {
        y: 'key',
        x: (one) => one.open.misaligned.value ?? 0,
        r: 4.4,
        fill: INK.misaligned,
        title: (one) => `${one.title}: ${formatRate(one.open.misaligned)}`,
      }),
    ],
  })
  const bad = organisms.find((one) => one.family === 'bad')
  return figure(
    chart,
    html`<b>${mostlyBroad(study) ? 'Narrow data, broad effect.' : 'What every organism answers.'}</b> Filled
      dots: share of harmful answers to open questions that no fine-tuning data touch, with the 95 % interval
      over prompts. Hollow dots: the same in advice domains that the organism was never fine-tuned on.
      Crosses: incoherent answers.
      ${bad && html`Each row is a model of its own, fine-tuned for ${bad.steps} steps unless it was reinforced.`}`,
  )
}
