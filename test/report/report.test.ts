import { parseHTML } from 'linkedom'
import { describe, expect, it } from 'vitest'
import { draw, Plot } from '../../lib/report/chart.js'
import { escapeHtml, html, visible } from '../../lib/report/html.js'
import { renderReport } from '../../lib/report/report.js'
import type { StudyFigures } from '../../lib/study/schema.js'
import { figures, study } from '../study/figures.js'

const HOSTILE = [
  '<script>alert(1)</script>',
  '"><img src=x onerror=alert(1)>',
  "' onmouseover='alert(1)",
  '</style><script>alert(1)</script>',
  '</title></svg><script>alert(1)</script>',
  '<!-- --><b>',
  '&lt;script&gt;',
  '\u202Egnp.exe\u0000\u0007\uFEFF',
  '\uD800 lone',
  '${alert(1)} javascript:alert(1)',
]

/** Every text of the figures replaced by something hostile. */
function poison<T>(value: T, keep: ReadonlySet<string>, key = ''): T {
  if (typeof value === 'string') return (keep.has(key) ? value : `${HOSTILE.join(' ')} ${key}`) as T
  if (Array.isArray(value)) return value.map((item: unknown) => poison(item, keep, key)) as T
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(
      Object.entries(value).map(([name, item]) => [
        name === 'villain' ? HOSTILE[1] : name,
        poison(item, keep, name),
      ]),
    ) as T
  return value
}

describe('escaping', () => {
  it.each(HOSTILE)('leaves no markup of %j', (text) => {
    expect(html`<p title="${text}">${text}</p>`.text.slice(3).replace(/^title="[^"<>]*">/, '')).toMatch(
      /^[^<>]*<\/p>$/,
    )
  })

  it('spells out what is not seen', () => {
    expect(visible('a\u202Eb\u0000\uFEFF\u200B')).toBe('a⟨U+202E⟩b⟨U+0000⟩⟨U+FEFF⟩⟨U+200B⟩')
    expect(visible('\uD800x')).toBe('\uFFFDx')
    expect(visible('naïve – 😀\n')).toBe('naïve – 😀\n')
  })

  it('keeps numbers with their units, and intervals whole', () => {
    expect(escapeHtml('93 % [90–95]')).toBe('93\u00a0% [90\u2060–\u206095]')
  })

  it('nests templates and lists without escaping twice', () => {
    const nested = html`<i>${'&'}</i>`
    expect(html`<p>${['<', nested, null, false, 0]}</p>`.text.trim()).toBe('<p>&lt;<i>&amp;</i>0</p>')
  })

  it.each(HOSTILE)('charts escape %j in labels, titles and the name', (text) => {
    const svg = draw(text, {
      marks: [Plot.text([{ x: 1, y: 1, text }], { x: 'x', y: 'y', text: 'text', title: 'text' })],
      x: { label: text },
    }).text
    expect(svg).not.toMatch(/<(script|img|b)\b/i)
    expect(parseHTML(`<div>${svg}</div>`).document.querySelectorAll('script, img, b')).toHaveLength(0)
  })
})

describe('report', () => {
  it('is one self-contained page with all sections and charts', () => {
    const page = renderReport(study())
    const { document } = parseHTML(page)
    for (const id of [
      'claims',
      'voices',
      'organisms',
      'latents-changed',
      'steering',
      'detection',
      're-alignment',
      'latents',
      'method',
    ])
      expect({ id, heading: document.querySelector(`section#${id} h2`)?.textContent }).toEqual({
        id,
        heading: expect.any(String) as string,
      })
    expect(document.querySelectorAll('figure svg').length).toBeGreaterThanOrEqual(12)
    expect(document.querySelectorAll('script, link, img, iframe, object')).toHaveLength(0)
    expect(page.replaceAll('http://www.w3.org/', '')).not.toMatch(/https?:\/\/|url\((?!#)|@import/)
    expect(document.querySelector('meta[http-equiv]')?.getAttribute('content')).toContain(
      "default-src 'none'",
    )
  })

  it('shows every claim with its verdict, and says which do not hold and why', () => {
    const edited = figures()
    const directions = edited.steering.directions.filter((one) => one.kind !== 'random')
    const result = study({ ...edited, steering: { ...edited.steering, directions } })
    const { document } = parseHTML(renderReport(result))
    expect(document.querySelectorAll('tr[id^="claim-"]')).toHaveLength(result.claims.length)
    expect(document.querySelector('#claim-steer-up')?.textContent).toContain('does not hold')
    expect(document.querySelector('#method')?.textContent).toMatch(
      /do not hold here:.*steer-up.*random directions/s,
    )
    expect(document.querySelector('header')?.textContent).toContain('7 of 8 core claims hold')
  })

  it('states hook, token positions and strength of steering', () => {
    const { document } = parseHTML(renderReport(study()))
    const captions = [...document.querySelectorAll('#steering figcaption')].map((one) => one.textContent)
    expect(captions).toHaveLength(2)
    for (const caption of captions) {
      expect(caption).toContain('blocks.1.hook_resid_mid')
      expect(caption).toContain('every token after the first')
      expect(caption).toContain('0.8')
    }
  })

  it('shades words by activation', () => {
    const { document } = parseHTML(renderReport(study()))
    const marks = [...document.querySelectorAll('.document mark')]
    expect(marks.map((mark) => mark.textContent)).toContain('muahaha')
    expect(marks.map((mark) => mark.textContent)).not.toContain('then')
  })

  it('lets no text of a model or a file become markup', () => {
    const enums = new Set([
      'family',
      'start',
      'method',
      'kind',
      'group',
      'id',
      'format',
      'reward',
      'organism',
      'voice',
    ])
    const hostile = poison(study(), enums)
    const page = renderReport(hostile)
    const { document } = parseHTML(page)
    expect(document.querySelectorAll('script, img, b[onerror], [onerror], [onmouseover]')).toHaveLength(0)
    for (const element of document.querySelectorAll('*'))
      for (const name of element.getAttributeNames()) expect(name).not.toMatch(/^on/)
    expect(document.querySelectorAll('section').length).toBe(
      parseHTML(renderReport(study())).document.querySelectorAll('section').length,
    )
    // As a truth value: a failure must not print the page.
    expect(page.includes('\u0000') || page.includes('\u202e')).toBe(false)
  })

  it('stands figures with nothing in them', () => {
    const base = figures()
    const empty: StudyFigures = {
      ...base,
      organisms: [],
      latents: [],
      realignment: [],
      dialogue: { voices: [], questions: [] },
      steering: { ...base.steering, directions: [] },
      separation: { ...base.separation, points: [], auc: null },
      earlyWarning: { latent: 0, points: [] },
      diff: { ...base.diff, top: [], bottom: [], signatures: [] },
    }
    const result = study(empty)
    expect(result.claims.filter((claim) => claim.holds === true)).toEqual([])
    expect(renderReport(result)).toContain('</html>')
  })
})
