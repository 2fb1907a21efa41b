/** HTML that is safe by construction: everything put into a template is escaped unless it is itself HTML. */

/** Markup made by {@link html}; the only thing that enters a template unescaped. */
export class Html {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }

  toString(): string {
    return this.text
  }
}

export type HtmlValue = Html | string | number | null | undefined | false | readonly HtmlValue[]

const entities: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

// Control characters, and those that turn the direction of the text around them or are not seen at all.
const unseen =
  // oxlint-disable-next-line no-control-regex
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g

/** Text of unknown origin with unseen characters spelled out ('⟨U+202E⟩') and lone surrogates replaced. */
export function visible(text: string): string {
  return text
    .replace(/\p{Surrogate}/gu, '\ufffd')
    .replace(unseen, (one) => `⟨U+${one.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`)
}

export function escapeHtml(text: string): string {
  return visible(text)
    .replace(/[&<>"']/g, (one) => entities[one] as string)
    .replace(/(\d) %/g, '$1\u00a0%') // a number keeps its unit,
    .replace(/(\d)–(?=\d)/g, '$1\u2060–\u2060') // and an interval its ends, on one line
}

function render(value: HtmlValue): string {
  if (value === null || value === undefined || value === false) return ''
  if (value instanceof Html) return value.text
  if (Array.isArray(value)) return value.map((item: HtmlValue) => render(item)).join('')
  return escapeHtml(String(value))
}

/** Template of markup: html`<p title="${anything}">${anything}</p>`. Attribute values have to be quoted. */
export function html(strings: TemplateStringsArray, ...values: readonly HtmlValue[]): Html {
  return new Html(strings.map((text, i) => text + (i < values.length ? render(values[i]) : '')).join(''))
}
