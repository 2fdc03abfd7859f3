import { expect, test } from 'vitest'
import { singleFlight } from './flight'

test('what is asked for during a run is one more run after it', async () => {
  const landings: (() => void)[] = []
  const ask = singleFlight(() => new Promise((resolve) => landings.push(resolve)))
  const all = [ask(), ask(), ask()]
  expect(landings.length).toBe(1)
  landings[0]!()
  await expect.poll(() => landings.length).toBe(2)
  landings[1]!()
  await Promise.all(all)
  expect(landings.length).toBe(2)
  void ask()
  expect(landings.length).toBe(3)
})
