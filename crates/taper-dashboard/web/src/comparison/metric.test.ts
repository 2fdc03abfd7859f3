import { expect, test } from 'vitest'
import { signed } from './metric'

test('a difference is a plain number with its sign, as exact as the figure', () => {
  expect(signed(-0.0123, 'valid_accuracy')).toBe('−0.012')
  expect(signed(0.0456, 'valid_loss')).toBe('+0.046')
  expect(signed(12.3, 'valid_perplexity')).toBe('+12')
  expect(signed(99.7, 'valid_perplexity')).toBe('+100')
  expect(signed(-310.4, 'valid_perplexity')).toBe('−310')
  expect(signed(0, 'valid_loss')).toBe('0')
})
