import { expect, test } from 'vitest'
import type { StreamEvent } from '../types'
import { HistoryThenLive, LivePage } from './history.svelte'
import { ApiError } from '../api'

const event = (seq: number): StreamEvent => ({
  id: `ftevent-${seq}`,
  object: 'fine_tuning.job.event',
  created_at: 0,
  level: 'info',
  message: '',
  type: 'message',
  job: 'ftjob-1',
  seq,
})

/** Shows the numbers of events; each load is answered by hand. */
class Numbers extends HistoryThenLive<number[]> {
  shown: number[] = []
  answers: { resolve: (history: number[]) => void; reject: (error: unknown) => void }[] = []

  protected override load(): Promise<number[]> {
    return new Promise((resolve, reject) => this.answers.push({ resolve, reject }))
  }

  protected override show(history: number[]): void {
    this.shown = history
  }

  protected override apply({ seq }: StreamEvent): void {
    this.shown = [...this.shown, seq]
  }

  /** Answers the oldest load that waits, and lets all that follows from it happen. */
  async answer(history: number[] | Error): Promise<void> {
    const { resolve, reject } = this.answers.shift()!
    if (history instanceof Error) reject(history)
    else resolve(history)
    await new Promise((resolve) => setTimeout(resolve))
  }
}

test('what comes while the history is loaded is applied on top of it', async () => {
  const numbers = new Numbers()
  numbers.reload()
  numbers.event(event(3))
  expect(numbers.shown).toEqual([])
  await numbers.answer([1, 2])
  numbers.event(event(4))
  expect(numbers.shown).toEqual([1, 2, 3, 4])
  expect(numbers.loaded).toBe(true)
})

test('it is loaded once at a time, and once more if that is asked for meanwhile', async () => {
  const numbers = new Numbers()
  for (let i = 0; i < 3; i += 1) numbers.reload()
  expect(numbers.answers).toHaveLength(1)
  await numbers.answer([1])
  expect(numbers.answers).toHaveLength(1)
  numbers.event(event(3))
  await numbers.answer([1, 2])
  expect(numbers.answers).toHaveLength(0)
  expect(numbers.shown).toEqual([1, 2, 3])
})

test('a history that cannot be loaded leaves what is shown, and events go on', async () => {
  const numbers = new Numbers()
  numbers.reload()
  await numbers.answer([1])
  numbers.reload()
  numbers.event(event(2))
  await numbers.answer(new Error('the server is away'))
  expect(numbers.problem).toBe('the server is away')
  expect(numbers.shown).toEqual([1, 2])
  numbers.reload()
  await numbers.answer([1, 2])
  expect(numbers.problem).toBeUndefined()
})

test('a page tells what is missing from what could not be loaded', async () => {
  let error: Error = new ApiError(404, 'no such job')
  class Page extends LivePage<null> {
    protected override load = () => Promise.reject(error)
    protected override show() {}
    protected override apply() {}
  }
  const page = new Page()
  const loaded = async () => {
    page.reload()
    await new Promise((resolve) => setTimeout(resolve))
    return page.missing
  }
  expect(await loaded()).toBe(true)
  error = new ApiError(503, 'not now')
  expect(await loaded()).toBe(false)
  expect(page.trouble).toBe('not now')
})
