/** Writing Parquet tables, a group of rows at a time. */
import { ByteWriter, ParquetWriter } from 'hyparquet-writer'
import { throwIfAborted, type TaskOptions } from '../core/task.js'
import { version } from '../version.js'
import { writeAtomic } from './atomic.js'

/** 'f64?': a double that may be missing. */
export type ColumnKind = 'u32' | 'f64' | 'f64?'

/** Name, kind, and the value in a row; NaN is written as null. */
export type Column<Row> = readonly [name: string, kind: ColumnKind, value: (row: Row) => number]

export interface ParquetOptions extends TaskOptions {
  /** Kept in the file for people. */
  metadata?: Readonly<Record<string, string>>
}

const rowsAtOnce = 1 << 13

/** Writes `count` rows, beside and renamed; `rowAt` gives each, in order. */
export async function writeParquet<Row>(
  path: string,
  columns: readonly Column<Row>[],
  count: number,
  rowAt: (place: number) => Row,
  options: ParquetOptions = {},
): Promise<void> {
  await writeAtomic(path, async (write) => {
    const writer = new ByteWriter()
    const put = async (): Promise<void> => {
      throwIfAborted(options)
      await write(writer.getBytes().slice())
      writer.index = 0
    }
    const parquet = new ParquetWriter({
      writer,
      schema: [
        { name: 'root', num_children: columns.length },
        ...columns.map(([name, kind]) =>
          kind === 'u32'
            ? ({ name, type: 'INT32', converted_type: 'UINT_32', repetition_type: 'REQUIRED' } as const)
            : ({
                name,
                type: 'DOUBLE',
                repetition_type: kind === 'f64?' ? 'OPTIONAL' : 'REQUIRED',
              } as const),
        ),
      ],
      createdBy: `personascope ${version}`,
      kvMetadata: Object.entries(options.metadata ?? {}).map(([key, value]) => ({ key, value })),
    })
    for (let first = 0; first < count; first += rowsAtOnce) {
      const rows = Array.from({ length: Math.min(rowsAtOnce, count - first) }, (_, i) => rowAt(first + i))
      await parquet.write({
        columnData: columns.map(([name, , value]) => ({
          name,
          data: rows.map((row) => {
            const found = value(row)
            return Number.isNaN(found) ? null : found
          }),
        })),
        rowGroupSize: rowsAtOnce,
      })
      await put()
      await new Promise(setImmediate) // large tables must not hold up the event loop
    }
    await parquet.finish()
    await put()
  })
}
