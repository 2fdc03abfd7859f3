import { getJob, listJobs } from '../api'
import { figures } from '../curves'
import { LiveCurves } from '../live/curves.svelte'
import { LiveList } from '../live/list.svelte'
import { throttle } from '../live/throttle'
import type { Job, StreamEvent } from '../types'

const sparklineFigures = ['train_loss']
const sparklinePoints = 60
const reloadPause = 500
const refreshPause = 300

/** A job of the list with the curve of its sparkline. */
export class Entry {
  job: Job
  /** Raised with every change of `losses`. */
  revision = $state(0)
  readonly #curves: LiveCurves
  readonly refresh = throttle(refreshPause, () => void this.#load())

  constructor(job: Job) {
    this.job = $state.raw(job)
    this.#curves = new LiveCurves(
      job.id,
      () => sparklineFigures,
      sparklinePoints,
      () => (this.revision += 1),
    )
    if ('train_loss' in job.metrics) this.#curves.reload()
  }

  get losses() {
    return this.#curves.curves.of('train_loss')
  }

  event(event: StreamEvent): void {
    if (event.type === 'metrics' && event.data) this.job = { ...this.job, metrics: { ...this.job.metrics, ...figures(event.data) } }
    this.#curves.event(event)
    if (this.losses.steps.length > 8 * sparklinePoints) this.#curves.reload()
  }

  async #load(): Promise<void> {
    this.job = await getJob(this.job.id).catch(() => this.job)
  }
}

/** The newest jobs. */
export class JobList extends LiveList<Job, Entry> {
  constructor() {
    super(listJobs, reloadPause)
  }

  protected override item(job: Job): Entry {
    const known = this.items.find((entry) => entry.job.id === job.id)
    if (known === undefined) return new Entry(job)
    known.job = job
    return known
  }

  protected override apply(event: StreamEvent): void {
    const entry = this.items.find((entry) => entry.job.id === event.job)
    if (entry === undefined) {
      // A new job; an older one than the list shows tells nothing that is seen.
      if (event.seq === 1 || this.items.length === 0) this.reloadSoon()
      return
    }
    entry.event(event)
    if (!event.data || !('status' in event.data || 'priority' in event.data)) return
    entry.refresh()
    // The others move up, or let it pass.
    for (const other of this.items) if (other.job.status === 'queued') other.refresh()
  }
}
