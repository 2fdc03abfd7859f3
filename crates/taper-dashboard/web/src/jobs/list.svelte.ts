import { allStreamPath, getJob, getMetrics, listJobs, reason } from '../api'
import { Curve, Curves } from '../curves'
import { stream, type Follower } from '../live/stream.svelte'
import { throttle } from '../live/throttle'
import type { Job, StreamEvent } from '../types'

const pageSize = 20
const sparklinePoints = 60

/** A job of the list with the curve of its sparkline. */
export class Entry {
  job: Job = $state.raw() as Job
  /** Raised with every change of `losses`. */
  revision = $state(0)
  losses = new Curve()
  readonly refresh = throttle(300, () => void this.#load())

  constructor(job: Job) {
    this.job = job
    if ('train_loss' in job.metrics) void this.#loadLosses()
  }

  metrics(data: Record<string, unknown>): void {
    this.job = { ...this.job, metrics: { ...this.job.metrics, ...(data as Job['metrics']) } }
    const { step, train_loss: loss } = data
    if (typeof step !== 'number' || loss === undefined) return
    this.losses.set(step, loss as number | null)
    if (this.losses.steps.length > 8 * sparklinePoints) void this.#loadLosses()
    this.revision += 1
  }

  async #load(): Promise<void> {
    this.job = await getJob(this.job.id).catch(() => this.job)
    if (this.job.attempt > 1) await this.#loadLosses()
  }

  async #loadLosses(): Promise<void> {
    const answer = await getMetrics(this.job.id, ['train_loss'], sparklinePoints).catch(() => undefined)
    if (answer === undefined) return
    this.losses = new Curves(answer).of('train_loss')
    this.revision += 1
  }
}

/** The newest jobs, kept up to date by the event stream. */
export class JobList implements Follower {
  entries: Entry[] = $state.raw([])
  hasMore = $state(false)
  loaded = $state(false)
  problem: string | undefined = $state()

  /** Events that arrive while the list is being loaded, to be applied on top of it. */
  #waiting: StreamEvent[] | undefined
  readonly #reloadSoon = throttle(500, () => this.reload())

  start(): () => void {
    return stream.follow(allStreamPath, this)
  }

  reload(): void {
    void this.#load()
  }

  async #load(): Promise<void> {
    const waiting: StreamEvent[] = (this.#waiting = [])
    const known = new Map(this.entries.map((entry) => [entry.job.id, entry]))
    try {
      const page = await listJobs(Math.max(pageSize, known.size))
      if (this.#waiting !== waiting) return
      this.entries = page.data.map((job) => renewed(known.get(job.id), job))
      this.hasMore = page.has_more
      this.loaded = true
      this.problem = undefined
    } catch (error) {
      this.problem = reason(error)
    }
    if (this.#waiting !== waiting) return
    this.#waiting = undefined
    for (const event of waiting) this.event(event)
  }

  async more(): Promise<void> {
    const last = this.entries.at(-1)
    if (last === undefined) return
    try {
      const page = await listJobs(pageSize, last.job.id)
      const known = new Set(this.entries.map((entry) => entry.job.id))
      const older = page.data.filter((job) => !known.has(job.id)).map((job) => new Entry(job))
      this.entries = [...this.entries, ...older]
      this.hasMore = page.has_more
    } catch (error) {
      this.problem = reason(error)
    }
  }

  event(event: StreamEvent): void {
    if (this.#waiting !== undefined) {
      this.#waiting.push(event)
      return
    }
    const entry = this.entries.find((entry) => entry.job.id === event.job)
    if (entry === undefined) {
      // A new job; an older one than the list shows tells nothing that is seen.
      if (event.seq === 1 || this.entries.length === 0) this.#reloadSoon()
      return
    }
    if (event.type === 'metrics' && event.data) entry.metrics(event.data)
    else if (event.data && ('status' in event.data || 'priority' in event.data)) {
      entry.refresh()
      // The others move up, or let it pass.
      for (const other of this.entries) if (other.job.status === 'queued') other.refresh()
    }
  }
}

function renewed(entry: Entry | undefined, job: Job): Entry {
  if (entry === undefined) return new Entry(job)
  entry.job = job
  return entry
}
