/** Reading option values; what is wrong is said with what was found and what was expected. */
import { UsageError } from './errors.js'

export const PRESET_NAMES = ['demo', 'quick'] as const
export type PresetName = (typeof PRESET_NAMES)[number]

function integer(option: string, text: string, low: number, high: number): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < low || value > high)
    throw new UsageError(`${option} is '${text}', expected a whole number from ${low} to ${high}`)
  return value
}

export const parseSeed = (text: string): number => integer('--seed', text, 0, 0xffff_ffff)

export const parseThreads = (text: string): number => integer('--threads', text, 1, 1024)

export function parsePreset(text: string): PresetName {
  const found = PRESET_NAMES.find((name) => name === text)
  if (!found) throw new UsageError(`--preset is '${text}', expected one of: ${PRESET_NAMES.join(', ')}`)
  return found
}

export function parseFolder(text: string): string {
  if (text.trim() === '' || text.includes('\0')) throw new UsageError(`--out is '${text}', expected a folder`)
  return text
}
