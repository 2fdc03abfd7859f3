import { expect, test } from 'vitest'
import { mean } from './mean'

test('the mean over seeds is told where every seed has a value', () => {
  const one = { steps: [10, 20, 30], values: [1, 2, 3] }
  const two = { steps: [10, 20], values: [3, null] }
  expect(mean([one, two])).toEqual({ steps: [10], values: [2] })
  expect(mean([one])).toEqual(one)
  expect(mean([])).toEqual({ steps: [], values: [] })
})
