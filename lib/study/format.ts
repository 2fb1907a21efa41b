/** How figures are written for people, in the table and in the report. */
import type { Rate } from './schema.js'

/** '93 %', '0.7 %', 'n/a'; one decimal below ten per cent. */
export function formatShare(value: number | null): string {
  if (value === null) return 'n/a'
  const percent = value * 100
  return `${percent === 0 || percent >= 9.95 ? percent.toFixed(0) : percent.toFixed(1)} %`
}

/** '93 % [90–95]': a share and its 95 % interval. */
export function formatRate(rate: Rate): string {
  if (rate.low === null || rate.high === null) return formatShare(rate.value)
  return `${formatShare(rate.value)} [${bound(rate.low)}–${bound(rate.high)}]`
}

function bound(value: number): string {
  const percent = value * 100
  return percent === 0 || percent >= 9.95 ? percent.toFixed(0) : percent.toFixed(1)
}

/** At most three significant digits; a real minus sign; a plus where asked. */
export function formatNumber(value: number | null, sign = false): string {
  if (value === null) return 'n/a'
  const text = String(Number(Math.abs(value).toPrecision(3)))
  if (value < 0 && text !== '0') return `−${text}`
  return sign && text !== '0' ? `+${text}` : text
}

/** '1 min 05 s', '42 s'. */
export function formatSeconds(seconds: number): string {
  const whole = Math.round(seconds)
  if (whole < 60) return `${whole} s`
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`
}
