import { expect, test } from 'vitest'
import type { ComparisonRow } from '../types'
import { columns, sorted } from './columns'

const row = (configuration: number, metric: number | null, train_seconds: number | null = null) =>
  ({
    configuration,
    metric,
    train_seconds,
    metric_std: 0.01,
    seeds: [1, 2, 3],
    metric_seeds: [1, 3],
    difference_ci95: [-0.02, 0.004],
  }) as unknown as ComparisonRow

const [metric, difference, , time] = columns({ metric: 'valid_accuracy', direction: 'max' })
const ids = (rows: ComparisonRow[]) => rows.map(({ configuration }) => configuration)

test('rows are sorted in both directions, and those without a figure stay last', () => {
  const rows = [row(0, 0.8), row(1, null), row(2, 0.9), row(3, 0.8)]
  expect(ids(sorted(rows, metric!, { key: 'metric', direction: 'descending' }))).toEqual([2, 0, 3, 1])
  expect(ids(sorted(rows, metric!, { key: 'metric', direction: 'ascending' }))).toEqual([0, 3, 2, 1])
})

test('a figure comes with its spread over the seeds that it has, a difference with its interval', () => {
  expect(metric!.text(row(0, 0.7654))).toBe('0.765')
  expect(metric!.more!(row(0, 0.7654))).toBe('± 0.010, 2 seeds')
  expect(difference!.more!(row(0, 0.7654))).toBe('95 %: −0.020 to +0.004')
  expect(time!.text(row(0, null, 75))).toBe('1 min 15 s')
})
