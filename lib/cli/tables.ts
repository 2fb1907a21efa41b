/** Rankings as the terminal shows them. */
import Table from 'cli-table3'

/** Of each end of a ranking. */
export const SHOWN = 10

export const figure = (value: number): string =>
  Number.isNaN(value) ? '' : String(Number(value.toPrecision(4)))

/** What --top says to those who write tables: 0 stands for all. */
export const topOf = ({ top }: { top: number }): { top?: number } => (top === 0 ? {} : { top })

export function tableOf(head: string[], rows: readonly (string | number)[][]): string {
  const made = new Table({ head, style: { head: [], border: [] }, colAligns: head.map(() => 'right') })
  made.push(...rows)
  return made.toString()
}
