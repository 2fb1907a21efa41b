/** Shares of labels (say, of the personas who wrote them) among a latent's top documents. */

/** Label → share, largest first, ties by name; documents without a label count as 'unknown'. Empty for none. */
export function labelProfile(
  documents: readonly { label?: string | null | undefined }[],
): Record<string, number> {
  const counts = new Map<string, number>()
  for (const { label } of documents) counts.set(label ?? 'unknown', (counts.get(label ?? 'unknown') ?? 0) + 1)
  const ordered = [...counts].toSorted(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
  return Object.fromEntries(ordered.map(([label, count]) => [label, count / documents.length]))
}

/** The label that at least `least` (default 0.8) of a profile has, or null where it is mixed. */
export function sharedLabel(profile: Readonly<Record<string, number>>, least = 0.8): string | null {
  for (const [label, share] of Object.entries(profile)) if (share >= least) return label
  return null
}
