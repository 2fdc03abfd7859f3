import { expect, test } from 'vitest'
import type { ComparisonRow } from '../types'
import { Contest } from './contest.svelte'
import { mostAtOnce } from './look'
import type { LiveRuns } from './runs.svelte'

test('the best is among those that are drawn, also when many have a better mean over fewer seeds', () => {
  const contest = new Contest({} as LiveRuns)
  contest.objective = { metric: 'valid_accuracy', direction: 'max' }
  contest.rows = Array.from({ length: mostAtOnce + 3 }, (_, i) => ({ configuration: i, metric: 0.9 - i / 100 }) as ComparisonRow)
  const shown = () => contest.shown.map(({ row }) => row.configuration)
  expect(shown()).toEqual(Array.from({ length: mostAtOnce }, (_, i) => i))
  contest.best = mostAtOnce + 1
  expect(shown()).toEqual([...Array.from({ length: mostAtOnce - 1 }, (_, i) => i), mostAtOnce + 1])
})
