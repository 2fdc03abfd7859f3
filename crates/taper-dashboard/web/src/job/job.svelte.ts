import { getJob, getMetrics, jobStreamPath, listArtifacts, listCheckpoints, listEvents, reason } from '../api'
import { Curves, figures } from '../curves'
import { LivePage } from '../live/history.svelte'
import { throttle } from '../live/throttle'
import { settings } from '../settings.svelte'
import { isTerminal, type Artifact, type Checkpoint, type Job, type JobEvent, type List, type Metrics, type StreamEvent } from '../types'

/** Up to this many logged steps the curves are exact; beyond it buckets keep the extremes. */
const historyPoints = 3000
const eventsPage = 200
/** At most ten redraws a second. */
const redrawPause = 100
const updatePause = 300

interface Files {
  checkpoints: Checkpoint[]
  artifacts: Artifact[]
}

interface History extends Files {
  job: Job
  /** Names of the figures that an evaluation may give. */
  measured: string[]
  metrics: Metrics
  events: List<JobEvent>
}

/** All that the page shows of one job. */
export class LiveJob extends LivePage<History> {
  job: Job | undefined = $state.raw()
  events: JobEvent[] = $state.raw([])
  olderEvents = $state(false)
  files: Files = $state.raw({ checkpoints: [], artifacts: [] })
  measured: string[] = $state.raw([])
  /** Raised when `curves` have changed. */
  revision = $state(0)
  curves = new Curves()

  readonly id: string
  #unfollow = () => {}
  readonly #redraw = throttle(redrawPause, () => (this.revision += 1))
  readonly #updateSoon = throttle(updatePause, () => void this.#update())

  constructor(id: string) {
    super()
    this.id = id
  }

  start(): () => void {
    this.#unfollow = this.follow(jobStreamPath([this.id]))
    return () => this.#unfollow()
  }

  protected override async load(): Promise<History> {
    // The job first: once it has ended, all that is asked after it is complete.
    const job = await getJob(this.id)
    const { tasks } = await settings.load()
    const measured = [...new Set(tasks.flatMap(({ figures }) => figures))]
    const [metrics, events, files] = await Promise.all([
      getMetrics(this.id, ['train_loss', 'learning_rate', ...measured], historyPoints),
      listEvents(this.id, eventsPage),
      this.#loadFiles(),
    ])
    return { job, measured, metrics, events, ...files }
  }

  protected override show({ job, measured, metrics, events, ...files }: History): void {
    this.job = job
    this.measured = measured
    this.curves = new Curves(metrics)
    this.events = events.data
    this.olderEvents = events.has_more
    this.files = files
    if (isTerminal(job.status)) this.finish()
    this.#redraw()
  }

  protected override apply(event: StreamEvent): void {
    if (!this.events.some((known) => known.id === event.id)) this.events = [event, ...this.events]
    const data = event.data ?? {}
    if (event.type === 'metrics') this.#showFigures(data)
    else if (['status', 'checkpoint', 'plan', 'priority'].some((name) => name in data)) this.#updateSoon()
    if (!this.curves.take(event)) this.reload()
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

  #showFigures(data: Record<string, unknown>): void {
    if (this.job) this.job = { ...this.job, metrics: { ...this.job.metrics, ...figures(data) } }
  }

  /** Loads what the stream does not carry. */
  async #update(): Promise<void> {
    try {
      const [job, files] = await Promise.all([getJob(this.id), this.#loadFiles()])
      this.files = files
      this.changed(job)
    } catch (error) {
      this.problem = reason(error)
    }
  }

  async #loadFiles(): Promise<Files> {
    const [checkpoints, artifacts] = await Promise.all([listCheckpoints(this.id), listArtifacts(this.id)])
    return { checkpoints: checkpoints.data, artifacts: artifacts.data }
  }
}
