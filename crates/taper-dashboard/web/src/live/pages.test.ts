import { expect, test } from 'vitest'
import { first } from './pages'

const all = Array.from({ length: 250 }, (_, i) => ({ id: `exp-${i}` }))

/** A server that puts at most 100 on a page. */
function list(limit: number, after?: string) {
  const start = after === undefined ? 0 : all.findIndex(({ id }) => id === after) + 1
  const end = start + Math.min(limit, 100)
  return Promise.resolve({ data: all.slice(start, end), has_more: end < all.length })
}

test('a list is as long as was asked for, however short the pages of the server are', async () => {
  expect(await first(list, 20)).toEqual({ data: all.slice(0, 20), has_more: true })
  expect(await first(list, 120)).toEqual({ data: all.slice(0, 120), has_more: true })
  expect(await first(list, 260)).toEqual({ data: all, has_more: false })
})
