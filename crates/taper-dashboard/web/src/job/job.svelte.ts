import { ApiError, getJob, getMetrics, jobStreamPath, listArtifacts, listCheckpoints, listEvents, reason } from '../api'
import { Curves } from '../curves'
import { stream, type Follower } from '../live/stream.svelte'
import { throttle } from '../live/throttle'
import { isTerminal, type Artifact, type Checkpoint, type Job, type JobEvent, type StreamEvent } from '../types'

export const shownFigures = [
  'train_loss',
  'valid_loss',
  'valid_accuracy',
  'valid_macro_f1',
  'valid_perplexity',
  'valid_mean_token_accuracy',
  'learning_rate',
] as const

/** Up to this many logged steps the curves are exact; beyond it buckets keep the extremes. */
const historyPoints = 3000
const eventsPage = 200
/** At most ten redraws a second. */
const redrawPause = 100

/** All that the page shows of one job: the history from the API, then what the event stream adds. */
export class LiveJob implements Follower {
  job: Job | undefined = $state.raw()
  events: JobEvent[] = $state.raw([])
  olderEvents = $state(false)
  checkpoints: Checkpoint[] = $state.raw([])
  artifacts: Artifact[] = $state.raw([])
  problem: string | undefined = $state()
  missing = $state(false)
  /** Raised when `curves` have changed. */
  revision = $state(0)
  curves = new Curves()

  readonly id: string
  #unfollow = () => {}
  /** Events that arrive while the history is being loaded, to be applied on top of it. */
  #waiting: StreamEvent[] | undefined
  readonly #redraw = throttle(redrawPause, () => (this.revision += 1))
  readonly #refreshSoon = throttle(300, () => void this.#refresh())

  constructor(id: string) {
    this.id = id
  }

  start(): () => void {
    this.#unfollow = stream.follow(jobStreamPath([this.id]), this)
    return () => this.#unfollow()
  }

  reload(): void {
    void this.#load()
  }

  async #load(): Promise<void> {
    const waiting: StreamEvent[] = (this.#waiting = [])
    try {
      // The job first: once it has ended, all that is asked after it is complete.
      const job = await getJob(this.id)
      const [metrics, events] = await Promise.all([
        getMetrics(this.id, shownFigures, historyPoints),
        listEvents(this.id, eventsPage),
        this.#loadFiles(),
      ])
      if (this.#waiting !== waiting) return
      this.curves = new Curves(metrics)
      this.events = events.data
      this.olderEvents = events.has_more
      this.job = job
      this.problem = undefined
      if (isTerminal(job.status)) {
        // Nothing more will come: the connection goes back to the browser.
        stream.finish()
        waiting.length = 0
      }
    } catch (error) {
      this.missing = error instanceof ApiError && error.status === 404
      this.problem = reason(error)
      if (this.missing) stream.finish()
    }
    if (this.#waiting !== waiting) return
    this.#waiting = undefined
    for (const event of waiting) this.event(event)
    this.#redraw()
  }

  event(event: StreamEvent): void {
    if (this.#waiting !== undefined) {
      this.#waiting.push(event)
      return
    }
    // What the history has already is drawn once more at its place: the answers it came in are not of one moment.
    if (!this.events.some((known) => known.id === event.id)) this.events = [event, ...this.events]
    const data = event.data ?? {}
    if (event.type === 'metrics') this.#metrics(data)
    else if (['status', 'checkpoint', 'plan', 'priority'].some((name) => name in data)) this.#refreshSoon()
    this.#restarted(data)
    this.#redraw()
  }

  async loadOlderEvents(): Promise<void> {
    try {
      const page = await listEvents(this.id, eventsPage, this.events.at(-1)?.id)
      const known = new Set(this.events.map((event) => event.id))
      this.events = [...this.events, ...page.data.filter((event) => !known.has(event.id))]
      this.olderEvents = page.has_more
    } catch (error) {
      this.problem = reason(error)
    }
  }

  /** Takes over a newer answer; the end of a job is loaded whole, because its last events may not have come yet. */
  changed(job: Job): void {
    const before = this.job
    this.job = job
    if (isTerminal(job.status)) this.reload()
    // The stream of an ended job was given back: a retried one is followed again.
    else if (before && isTerminal(before.status)) this.start()
  }

  #metrics(data: Record<string, unknown>): void {
    this.curves.add(data)
    if (this.job) this.job = { ...this.job, metrics: { ...this.job.metrics, ...(data as Job['metrics']) } }
  }

  /** A new attempt repeats what lay beyond the checkpoint it goes on from; the server has dropped that from the history. */
  #restarted(data: Record<string, unknown>): void {
    if (typeof data.resumed_from_step === 'number') this.curves.rewind(data.resumed_from_step)
    else if (data.status === 'running' && typeof data.attempt === 'number' && data.attempt > 1) this.reload()
  }

  async #refresh(): Promise<void> {
    try {
      const [job] = await Promise.all([getJob(this.id), this.#loadFiles()])
      this.changed(job)
    } catch (error) {
      this.problem = reason(error)
    }
  }

  async #loadFiles(): Promise<void> {
    const [checkpoints, artifacts] = await Promise.all([listCheckpoints(this.id), listArtifacts(this.id)])
    this.checkpoints = checkpoints.data
    this.artifacts = artifacts.data
  }
}
