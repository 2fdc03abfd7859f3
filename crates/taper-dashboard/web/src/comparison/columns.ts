import { bytes, compact, seconds } from '../format'
import type { ComparisonRow, Objective } from '../types'
import { metricFormat, metricName, signed } from './metric'

export interface Column {
  key: string
  title: string
  /** What the column is sorted by; `null` comes last. */
  value: (row: ComparisonRow) => number | string | null
  /** What a cell shows when there is a value. */
  text: (row: ComparisonRow) => string
  /** A second, quiet line of the cell. */
  more?: (row: ComparisonRow) => string
  /** The order in which good ones come first. */
  first: 'ascending' | 'descending'
}

/** Fields of a row that hold a number, or null where it is not known. */
type Figure = { [K in keyof ComparisonRow]: ComparisonRow[K] extends number | null ? K : never }[keyof ComparisonRow]

/** The columns of figures, in their order. */
export function columns(objective: Objective): Column[] {
  const { metric, direction } = objective
  const format = metricFormat(metric)
  const plain = (key: Figure, title: string, format: (n: number) => string, first: Column['first']): Column => {
    const value = (row: ComparisonRow) => row[key]
    return { key, title, value, text: (row) => format(value(row) ?? 0), first }
  }
  return [
    {
      ...plain('metric', metricName(metric), format, direction === 'max' ? 'descending' : 'ascending'),
      more: ({ metric_std: std, metric_seeds: seeds }) => (std === null ? '' : `± ${format(std)}, ${seeds.length} seeds`),
    },
    {
      ...plain('difference', 'To the best', (n) => signed(n, metric), direction === 'max' ? 'descending' : 'ascending'),
      more: ({ difference_ci95: interval }) =>
        interval === null ? '' : `95 %: ${interval.map((end) => signed(end, metric)).join(' to ')}`,
    },
    plain('trainable_parameters', 'Trained', compact, 'ascending'),
    plain('train_seconds', 'Time', seconds, 'ascending'),
    plain('tokens_per_second', 'Tokens/s', compact, 'descending'),
    plain('peak_memory_bytes', 'Memory', bytes, 'ascending'),
    plain('adapter_bytes', 'On disk', bytes, 'ascending'),
  ]
}

export interface Order {
  key: string
  direction: 'ascending' | 'descending'
}

/** The rows in an order; those without a value last, equal ones as they were. */
export function sorted(rows: readonly ComparisonRow[], column: Column, { direction }: Order): ComparisonRow[] {
  const sign = direction === 'ascending' ? 1 : -1
  return rows.toSorted((a, b) => {
    const [x, y] = [column.value(a), column.value(b)]
    if (x === null || y === null) return Number(x === null) - Number(y === null)
    if (typeof x === 'number' && typeof y === 'number') return sign * (x - y)
    return sign * String(x).localeCompare(String(y), 'en', { numeric: true })
  })
}
