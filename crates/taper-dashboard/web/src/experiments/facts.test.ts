import { expect, test } from 'vitest'
import type { Experiment } from '../types'
import { design, statusLine } from './facts'

const experiment = (changes: Partial<Experiment>) =>
  ({
    status: 'running',
    started_at: 100,
    finished_at: null,
    estimated_finish: 760,
    progress: { runs: 12, ended: 3, steps: 1250, total_steps: 4000 },
    table: new Array<Experiment['table'][number]>(4),
    seeds: [1, 2, 3],
    strategy: { type: 'all' },
    ...changes,
  }) as Experiment

test('a running experiment tells runs, steps and the time left', () => {
  expect(statusLine(experiment({}), 160)).toEqual(['3 of 12 runs ended', 'step 1,250/4,000', '31 %', 'ETA 10 min'])
})

test('an ended one tells what it took, and one that has not been planned has no steps', () => {
  const progress = { runs: 12, ended: 12, steps: 0, total_steps: 0 }
  expect(statusLine(experiment({ status: 'failed', finished_at: 145, progress }), 900)).toEqual(['12 of 12 runs ended', 'took 45 s'])
})

test('the design is told in few words', () => {
  expect(design(experiment({}))).toBe('4 configurations × 3 seeds')
  expect(design(experiment({ seeds: [1], strategy: { type: 'asha', reduction: 3 } }))).toBe('4 configurations, weak runs stopped early')
})
