import { expect, test } from 'vitest'
import { age, bytes, compact, count, duration, figure, loss, share } from './format'

test('numbers', () => {
  expect([count(1240), count(12)]).toEqual(['1,240', '12'])
  expect([compact(5234), compact(12_345), compact(999_600), compact(42.4)]).toEqual(['5.2k', '12k', '1.0M', '42'])
  expect([figure(0.8), figure(1.19512), figure(0.0002), figure(0), figure(2e7)]).toEqual(['0.8', '1.195', '2e-4', '0', '2e7'])
  expect([figure(null), figure(undefined)]).toEqual(['not finite', '–'])
  expect([loss(0.248), loss(1.33), loss(1e-5), loss(null)]).toEqual(['0.2480', '1.330', '1e-5', 'not finite'])
  expect(share(0.82)).toBe('0.820')
  expect([bytes(812), bytes(1536), bytes(90_900_000)]).toEqual(['812 B', '1.5 KiB', '86.7 MiB'])
})

test('times', () => {
  expect([45, 75, 720, 3600, 7500, 273_600].map(duration)).toEqual(['45 s', '1 min 15 s', '12 min', '1 h', '2 h 5 min', '3 d 4 h'])
  expect([3, 30, 130, 7300, 200_000].map((s) => age(1000, 1000 + s))).toEqual(['just now', '30 s ago', '2 min ago', '2 h ago', '2 d ago'])
  expect([duration(3599), duration(0.2)]).toEqual(['1 h', '< 1 s'])
})
