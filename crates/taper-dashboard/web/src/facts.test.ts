import { expect, test } from 'vitest'
import { statusText, statusLine } from './facts'
import type { Job } from './types'

const job = (changes: Partial<Job>) =>
  ({ status: 'queued', metrics: {}, started_at: null, finished_at: null, error: null, ...changes }) as Job

test('the state line of a running job', () => {
  const metrics = {
    step: 1240,
    total_steps: 5000,
    eta_seconds: 720,
    tokens_per_second: 5210,
    train_loss: 1.195,
    valid_loss: 1.33,
    valid_accuracy: 0.82,
  }
  const line = statusLine(job({ status: 'running', metrics }), 0).join(' · ')
  expect(line).toBe('step 1,240/5,000 · 24 % · ETA 12 min · 5.2k tok/s · loss 1.195 · valid 1.330 · accuracy 0.820')
})

test('a job without steps says what it waits for or why it ended', () => {
  expect(statusText(job({ queue_position: 2 }), 0)).toBe('position 2 in the queue')
  expect(statusText(job({ queue_position: 2, estimated_start: 840 }), 120)).toBe('position 2 in the queue, starts in about 12 min')
  expect(statusText(job({ status: 'cancelled' }), 0)).toBe('stopped before the first step')
  const failed = job({ status: 'failed', error: { code: 'x', message: 'line 3 is no JSON', param: null, step: null } })
  expect(statusText(failed, 0)).toBe('line 3 is no JSON')
  expect(statusLine(failed, 0)).toEqual(['failed before the first step'])
  expect(statusText(job({ status: 'succeeded', metrics: { step: 40, total_steps: 40 }, started_at: 10, finished_at: 85 }), 0)).toBe(
    '40 steps in 1 min 15 s',
  )
})

test('a run at a rung waits for the others', () => {
  const waiting = job({ status: 'paused', reason: 'rung', metrics: { step: 30, total_steps: 60 } })
  expect(statusLine(waiting, 0).slice(0, 2)).toEqual(['waits for the other runs of its experiment', 'step 30/60'])
  expect(statusText(waiting, 0)).toBe('waits for the other runs of its experiment · step 30/60')
  expect(statusText({ ...waiting, reason: null }, 0)).toBe('paused at step 30/60')
})

test('a resumed job shows its place in the queue and the step it goes on from', () => {
  const resumed = job({ queue_position: 1, metrics: { step: 30, total_steps: 60 } })
  expect(statusLine(resumed, 0).slice(0, 2)).toEqual(['position 1 in the queue', 'step 30/60'])
  expect(statusText(resumed, 0)).toBe('position 1 in the queue · step 30/60')
})
