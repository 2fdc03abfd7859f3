import { expect, test } from 'vitest'
import { linearTicks, logTicks } from './ticks'

test('a logarithmic axis has round marks, also where it spans less than a decade', () => {
  expect(logTicks(0.01, 1)).toEqual([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1])
  expect(logTicks(0.35, 0.75)).toEqual([0.4, 0.5, 0.6, 0.7])
  expect(logTicks(1e-6, 1)).toEqual([0.000001, 0.00001, 0.0001, 0.001, 0.01, 0.1, 1])
})

test('evenly spaced marks', () => {
  expect(linearTicks(0, 10, 5)).toEqual([0, 2, 4, 6, 8, 10])
})
