import { expect, test } from 'vitest'
import { smooth } from './smooth'

test('the average starts at the first value and not near zero', () => {
  for (const value of smooth([4, 4, 4], 0.9)) expect(value).toBeCloseTo(4, 12)
  const [first, second] = smooth([1, 3], 0.5)
  expect(first).toBeCloseTo(1)
  expect(second).toBeCloseTo((0.5 * 0.5 * 1 + 0.5 * 3) / (1 - 0.25))
})

test('weight 0 is the curve itself, and a gap stays a gap', () => {
  expect(smooth([1, null, 3, undefined, 5], 0)).toEqual([1, null, 3, undefined, 5])
  expect(smooth([1, null, 1], 0.6)[1]).toBeNull()
})
