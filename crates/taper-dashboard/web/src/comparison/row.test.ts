import { expect, test } from 'vitest'
import type { ComparisonRow, Job } from '../types'
import { ranked, rowsOf, comparabilityWarnings } from './row'

const job = (id: string, metrics: Job['metrics'], suffix: string | null = null) =>
  ({
    id,
    model: 'bert',
    user_provided_suffix: suffix,
    tuning: { type: 'prompt_tuning' },
    training: {},
    metrics,
    seed: 42,
    status: 'running',
  }) as unknown as Job

const methodTitle = (name: string) => (name === 'prompt_tuning' ? 'Prompt tuning' : name)

test('the best of single jobs is found, and the others are told by their distance from it', () => {
  const jobs = [job('a', { valid_loss: 0.5 }, 'one'), job('b', { valid_loss: 0.25 }, 'two'), job('c', {}, 'three')]
  const { rows, best } = rowsOf(jobs, { metric: 'valid_loss', direction: 'min' }, methodTitle)
  expect(best).toBe(1)
  expect(rows.map(({ difference }) => difference)).toEqual([0.25, 0, null])
  expect(rows[0]!.label).toBe('bert · one · Prompt tuning')
})

test('jobs of the same name are told apart by their ids', () => {
  const { rows, best } = rowsOf([job('a', {}), job('b', {})], { metric: 'valid_loss', direction: 'min' }, methodTitle)
  expect(rows.map(({ label }) => label)).toEqual(['bert · Prompt tuning · a', 'bert · Prompt tuning · b'])
  expect(best).toBeNull()
})

test('the best comes first, also when the mean over fewer seeds is better, and those without a figure come last', () => {
  const row = (configuration: number, metric: number | null) => ({ configuration, metric }) as ComparisonRow
  const rows = [row(0, null), row(1, 0.8), row(2, 0.9), row(3, 0.7), row(4, null)]
  const places = (direction: 'min' | 'max', best: number | null) =>
    ranked(rows, { metric: 'm', direction }, best).map(({ configuration }) => configuration)
  expect(places('max', null)).toEqual([2, 1, 3, 0, 4])
  expect(places('min', null)).toEqual([3, 1, 2, 0, 4])
  expect(places('max', 1)).toEqual([1, 2, 3, 0, 4])
})

test('figures of other rows are said not to be comparable', () => {
  const on = (validation_file: string | null, seed = 1) =>
    ({ training_file: 'file-a', validation_file, training: { eval_split: validation_file ? null : 0.2, seed } }) as unknown as Job
  expect(comparabilityWarnings([on('file-b', 1), on('file-b', 2)])).toEqual([])
  expect(comparabilityWarnings([on('file-b'), on('file-c')]).map(({ code }) => code)).toEqual(['validation_differs'])
  expect(comparabilityWarnings([on(null, 1), on(null, 2)]).map(({ code }) => code)).toEqual(['validation_differs'])
})
