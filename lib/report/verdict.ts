import { inducesBroadly } from '../study/claim-rules.js'
import type { StudyResult } from '../study/schema.js'

/** Whether a claim holds in this study: captions say what was found, not what was hoped for. */
export function holds({ claims }: StudyResult, id: string): boolean {
  return claims.find((claim) => claim.id === id)?.holds === true
}

/** Whether most domains of bad advice misalign broadly and coherently, whatever the controls do. */
export function mostlyBroad({ figures }: StudyResult): boolean {
  const bad = figures.organisms.filter((one) => one.family === 'bad')
  const broad = bad.filter((one) => inducesBroadly(one).every((condition) => condition.holds))
  return broad.length > bad.length / 2
}
