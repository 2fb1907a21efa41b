import Table from 'cli-table3'
import type { Claim } from '../study/schema.js'
import { oneLine } from './errors.js'

const MARKS = {
  true: ['holds', 'green'],
  false: ['does not hold', 'red'],
  null: ['not measured', 'grey'],
} as const

export interface TableStyle {
  colours: boolean
  /** Columns of the terminal. */
  width: number
}

/** The claims, the paper's figures, ours with intervals, and whether each holds. Core claims come first. */
export function claimsTable(claims: readonly Claim[], style: TableStyle): string {
  const width = Math.max(80, Math.min(style.width, 150))
  const fixed = 20 + 15
  const flexible = width - fixed - 6
  const table = new Table({
    head: ['claim', 'what it says', 'the paper', 'here (95 % interval)', 'verdict'],
    colWidths: [
      20,
      Math.floor(flexible * 0.32),
      Math.floor(flexible * 0.24),
      flexible - Math.floor(flexible * 0.32) - Math.floor(flexible * 0.24),
      15,
    ],
    wordWrap: true,
    style: style.colours ? { head: ['bold'], border: ['grey'] } : { head: [], border: [] },
  })
  for (const claim of claims) {
    const [text, colour] = MARKS[`${claim.holds}`]
    table.push([
      claim.core ? claim.id : `${claim.id} *`,
      claim.claim,
      claim.paper,
      oneLine(claim.measured ?? claim.rule),
      style.colours ? paint(text, colour) : text,
    ])
  }
  const core = claims.filter((claim) => claim.core)
  const held = core.filter((claim) => claim.holds === true).length
  return `${table.toString()}\n${held} of ${core.length} core claims hold for this seed (* beyond the core; rules and every condition are in the report)`
}

function paint(text: string, colour: 'green' | 'red' | 'grey'): string {
  const code = { green: 32, red: 31, grey: 90 }[colour]
  return `\u001b[${code}m${text}\u001b[39m`
}
