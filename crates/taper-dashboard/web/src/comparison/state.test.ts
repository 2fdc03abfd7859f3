import { expect, test } from 'vitest'
import type { ComparisonRow } from '../types'
import { ComparisonState } from './state.svelte'
import { mostAtOnce } from './appearance'
import { LiveRuns } from './runs.svelte'

test('the best is among those that are drawn, also when many have a better mean over fewer seeds', () => {
  const comparison = new ComparisonState(new LiveRuns())
  comparison.objective = { metric: 'valid_accuracy', direction: 'max' }
  comparison.rows = Array.from({ length: mostAtOnce + 3 }, (_, i) => ({ configuration: i, metric: 0.9 - i / 100 }) as ComparisonRow)
  const shown = () => comparison.shown.map(({ row }) => row.configuration)
  expect(shown()).toEqual(Array.from({ length: mostAtOnce }, (_, i) => i))
  comparison.best = mostAtOnce + 1
  expect(shown()).toEqual([...Array.from({ length: mostAtOnce - 1 }, (_, i) => i), mostAtOnce + 1])
})
