import type { StudyResult } from '../study/schema.js'

/** Whether a claim holds in this study: captions say what was found, not what was hoped for. */
export function holds({ claims }: StudyResult, id: string): boolean {
  return claims.find((claim) => claim.id === id)?.holds === true
}
