import { expect, test } from 'vitest'
import { limit } from './limit'

test('no more run at once than the limit, in their order, also after one has failed', async () => {
  const limited = limit(2)
  const begun: number[] = []
  let running = 0
  let most = 0
  const task = (n: number) => async () => {
    begun.push(n)
    running += 1
    most = Math.max(most, running)
    await Promise.resolve()
    running -= 1
    if (n === 1) throw new Error('one')
    return n
  }
  const ended = await Promise.allSettled([0, 1, 2, 3, 4].map((n) => limited(task(n))))
  expect(ended.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled', 'fulfilled'])
  expect(begun).toEqual([0, 1, 2, 3, 4])
  expect(most).toBe(2)
})
