import { compact, count, duration, loss, share } from './format'
import { isTerminal, type Job, type RunState } from './types'

/** What a job is called. */
export const title = (job: Job) => (job.user_provided_suffix ? `${job.model} · ${job.user_provided_suffix}` : job.model)

export const stateWords: Record<RunState, string> = {
  validating_files: 'validating',
  queued: 'queued',
  running: 'running',
  paused: 'paused',
  succeeded: 'succeeded',
  failed: 'failed',
  cancelled: 'cancelled',
  stopped_early: 'stopped early',
  deleted: 'deleted',
}

const number = (value: unknown) => (typeof value === 'number' ? value : undefined)

/** Optimizer steps done and planned. */
export function steps(job: Job): { done: number; total: number } | undefined {
  const total = number(job.metrics.total_steps)
  return total === undefined ? undefined : { done: number(job.metrics.step) ?? 0, total }
}

/** Seconds from the start of the run to its end or to now. */
export function elapsed(job: Job, now: number): number | undefined {
  const start = job.started_at
  return typeof start === 'number' ? Math.max(0, (job.finished_at ?? now) - start) : undefined
}

/** Where the job stands, in one sentence for the list. */
export function statusText(job: Job, now: number): string {
  const at = steps(job)
  const reached = at ? `step ${count(at.done)}/${count(at.total)}` : undefined
  const took = elapsed(job, now)
  switch (job.status) {
    case 'validating_files':
      return 'reading model and data'
    case 'queued':
      return [waitsFor(job, now) ?? 'waiting for a worker', reached].filter(Boolean).join(' · ')
    case 'running':
      return [reached ?? 'starting', eta(job)].filter(Boolean).join(' · ')
    case 'paused':
      if (job.reason === 'rung') return [waitsFor(job, now), reached].filter(Boolean).join(' · ')
      return reached ? `paused at ${reached}` : 'paused'
    case 'succeeded':
      return [at && `${count(at.done)} steps`, took !== undefined && `in ${duration(took)}`].filter(Boolean).join(' ')
    case 'failed':
      return job.error?.message ?? 'failed'
    case 'cancelled':
      return reached ? `stopped at ${reached}` : 'stopped before the first step'
  }
}

/** The other runs of its experiment, or its place in the queue and the time until its start, as far as they are known. */
function waitsFor(job: Job, now: number): string | undefined {
  if (job.status === 'paused' && job.reason === 'rung') return 'waits for the other runs of its experiment'
  if (job.status !== 'queued' || typeof job.queue_position !== 'number') return undefined
  const start = job.estimated_start
  const wait = typeof start === 'number' ? `, starts in about ${duration(Math.max(1, start - now))}` : ''
  return `position ${job.queue_position} in the queue${wait}`
}

function eta(job: Job): string | undefined {
  const seconds = number(job.metrics.eta_seconds)
  return job.status === 'running' && seconds !== undefined ? `ETA ${duration(seconds)}` : undefined
}

/** The figures of the moment: step, share, time left, speed, losses, accuracy. */
export function statusLine(job: Job, now: number): string[] {
  const at = steps(job)
  if (at === undefined) return [job.status === 'failed' ? 'failed before the first step' : statusText(job, now)]
  const { metrics } = job
  const speed = number(metrics.tokens_per_second)
  const took = elapsed(job, now)
  const parts = [
    waitsFor(job, now),
    `step ${count(at.done)}/${count(at.total)}`,
    `${Math.floor((100 * at.done) / Math.max(1, at.total))} %`,
    eta(job),
    isTerminal(job.status) && took !== undefined && `took ${duration(took)}`,
    speed !== undefined && `${compact(speed)} tok/s`,
    'train_loss' in metrics && `loss ${loss(metrics.train_loss)}`,
    'valid_loss' in metrics && `valid ${loss(metrics.valid_loss)}`,
    'valid_accuracy' in metrics && `accuracy ${share(metrics.valid_accuracy)}`,
    'valid_perplexity' in metrics && `perplexity ${loss(metrics.valid_perplexity)}`,
  ]
  return parts.filter((part) => typeof part === 'string')
}
