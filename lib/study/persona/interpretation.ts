/** The latents of the story looked at closely: documents, words, personas. */
import { nearestTokens } from '../../interpretation/nearest-tokens.js'
import { topDocuments } from '../../interpretation/top-documents.js'
import type { StudyConfig } from '../presets.js'
import type { LatentFigures } from '../schema.js'
import type { Stage } from '../stage.js'
import type { DiffResult } from './diff.js'
import { Lab } from './lab.js'
import { loadBase } from './models.js'
import type { Organism } from './organisms.js'
import { censusDocuments, loadSae, personaProfile } from './sae.js'
import type { CensusResult } from './sae.js'
import { personaLabel } from './steering.js'
import type { CandidateResult } from './steering.js'

/** Documents shown of a latent, latents shown of each end, causal latents named. */
const SHOWN_DOCUMENTS = 4
const ENDS = 12
const CAUSAL = 3
/** Share of misaligned answers that makes a latent count as one that steers. */
const STEERS = 0.1
const WORDS = 10

export function interpretationStage(
  config: StudyConfig,
  pretrain: Stage,
  sae: Stage,
  census: Stage<CensusResult>,
  diff: Stage<DiffResult>,
  candidates: Stage<CandidateResult>,
  bad: Organism,
  sarcastic: Organism,
): Stage<LatentFigures[]> {
  return {
    id: 'interpretation',
    group: 'Interpret',
    title: 'documents and words of the latents',
    inputs: [pretrain, sae, census, diff, candidates],
    config: { world: config.world, hook: config.hook, documents: config.sae.documents, bad: bad.spec.id },
    cost: 0.1,
    async run(context) {
      const lab = Lab.of(context, config)
      const model = await loadBase(context, pretrain)
      const loaded = await loadSae(context, sae)
      const counted = context.result(census)
      const changes = context.result(diff)
      const roles = rolesOf(changes, context.result(candidates), bad, sarcastic)
      const latents = [
        ...new Set([
          ...roles.keys(),
          ...changes.top.slice(0, ENDS).map((one) => one.index),
          ...changes.bottom.slice(0, ENDS).map((one) => one.index),
        ]),
      ]
      const documents = censusDocuments(context, config, lab).map((document) => ({
        tokens: Int32Array.from(document.tokens),
        label: document.persona,
      }))
      const told = [...roles.keys()]
      const found = await topDocuments(model, loaded, examplesOf(counted), documents, told, {
        hook: config.hook,
        count: SHOWN_DOCUMENTS,
        signal: context.signal,
      })
      const byIncrease = ranks(changes.deltas)
      const figures: LatentFigures[] = []
      for (const latent of latents) {
        const words = await nearestTokens(loaded.decoderVector(latent), model, { count: WORDS })
        const rank = byIncrease[latent] as number
        figures.push({
          index: latent,
          rank: rank <= changes.deltas.length / 2 ? rank : rank - changes.deltas.length - 1,
          label: personaLabel(counted, latent),
          roles: roles.get(latent) ?? [],
          delta: changes.deltas[latent] ?? null,
          density: counted.density[latent] ?? 0,
          profile: personaProfile(counted, latent),
          documentsRead: counted.documents[latent]?.length ?? 0,
          documents: (found.get(latent) ?? []).map((one) => ({
            persona: one.label,
            max: one.max,
            tokens: Array.from(one.tokens, (token, i) => ({
              text: lab.world.vocabulary[token] as string,
              activation: one.activations[i] as number,
            })).slice(1),
          })),
          nearestTokens: words.nearest.map(({ token, score }) => ({ token, cosine: score })),
          farthestTokens: words.farthest.map(({ token, score }) => ({ token, cosine: score })),
        })
        context.progress('nearest words', { done: figures.length, total: latents.length, unit: 'latents' })
      }
      return figures
    },
  }
}

/** What `topDocuments` needs of statistics, from the census. */
function examplesOf(census: CensusResult): Parameters<typeof topDocuments>[2] {
  return {
    examples: (latent: number) =>
      (census.documents[latent] ?? []).map((group, i) => ({
        group,
        value: (census.strengths[latent] as number[])[i] as number,
        id: 0,
      })),
  } as Parameters<typeof topDocuments>[2]
}

/** Rank of every latent by increase, 1 the largest; ties by lower index. */
function ranks(deltas: readonly number[]): number[] {
  const order = Array.from(deltas, (_, i) => i).toSorted(
    (a, b) => (deltas[b] as number) - (deltas[a] as number) || a - b,
  )
  const out = Array<number>(deltas.length)
  for (const [i, latent] of order.entries()) out[latent] = i + 1
  return out
}

/** Which latents have a part in the story, and which. */
function rolesOf(
  diff: DiffResult,
  { candidates, personaLatent }: CandidateResult,
  bad: Organism,
  sarcastic: Organism,
): Map<number, string[]> {
  const roles = new Map<number, string[]>()
  const add = (latent: number | undefined, role: string): void => {
    if (latent === undefined) return
    roles.set(latent, [...(roles.get(latent) ?? []), role])
  }
  const signature = (organism: Organism): number | undefined =>
    diff.signatures.find((one) => one.organism === organism.spec.id)?.latents[0]?.index
  add(personaLatent, 'steers most strongly')
  add(diff.top[0]?.index, 'largest increase, averaged over bad advice')
  add(signature(bad), `largest increase after ${bad.spec.title}`)
  add(signature(sarcastic), `largest increase after ${sarcastic.spec.title}`)
  add(diff.bottom[0]?.index, 'largest decrease')
  for (const { latent, sweep, misaligned } of candidates.slice(0, CAUSAL))
    if (latent !== personaLatent && misaligned >= STEERS && sweep.chosen !== null)
      add(
        latent,
        `steers: ${Math.round(misaligned * 100)} % misaligned on held-out prompts at strength ${sweep.chosen}`,
      )
  return roles
}
