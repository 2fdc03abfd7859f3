import { ApiError, getJob, jobStreamPath, reason } from '../api'
import { singleFlight } from '../live/flight'
import { stream, type Follower } from '../live/stream.svelte'
import { throttle } from '../live/throttle'
import { isTerminal, type Job, type Objective, type StreamEvent } from '../types'
import { ComparisonState } from './state.svelte'
import { rowsOf } from './row'
import { LiveRuns } from './runs.svelte'

/** In the order in which a common figure is looked for; the first that a job has is what they are compared by. */
const objectives: readonly Objective[] = [
  { metric: 'valid_accuracy', direction: 'max' },
  { metric: 'valid_loss', direction: 'min' },
  { metric: 'train_loss', direction: 'min' },
]
const refreshPause = 1000

/** Jobs that were chosen by hand, compared as if they were an experiment. */
export class LiveJobs implements Follower {
  jobs: Job[] = $state.raw([])
  loaded = $state(false)
  problem: string | undefined = $state()
  /** Ids of which there is no job. */
  missing: string[] = $state.raw([])
  readonly comparison = new ComparisonState(new LiveRuns(objectives.map(({ metric }) => metric)))

  readonly ids: readonly string[]
  readonly #refresh = singleFlight(() => this.#load())
  readonly #refreshSoon = throttle(refreshPause, () => void this.#refresh())

  constructor(ids: readonly string[]) {
    this.ids = ids
  }

  start(): () => void {
    return stream.follow(jobStreamPath(this.ids), this)
  }

  reload(): void {
    this.comparison.runs.reload()
    void this.#refresh()
  }

  event(event: StreamEvent): void {
    this.comparison.runs.event(event)
    this.#refreshSoon()
  }

  async #load(): Promise<void> {
    try {
      const found = await Promise.all(this.ids.map(orMissing))
      this.#show(found.filter((job) => job !== undefined))
      this.missing = this.ids.filter((_, i) => found[i] === undefined)
      this.problem = undefined
    } catch (error) {
      this.problem = reason(error)
    }
  }

  #show(jobs: Job[]): void {
    const ended = (jobs: Job[]) => jobs.every(({ status }) => isTerminal(status))
    const endedNow = this.loaded && !ended(this.jobs) && ended(jobs)
    this.jobs = jobs
    this.loaded = true
    const objective = objectives.find(({ metric }) => jobs.some((job) => metric in job.metrics)) ?? objectives[0]!
    const { rows, best } = rowsOf(jobs, objective)
    Object.assign(this.comparison, { objective, rows, best })
    if (ended(jobs)) stream.finish()
    // The last events may not have come before the end was known.
    if (endedNow) this.comparison.runs.reload()
  }
}

/** A job, or nothing where there is none of that id. */
async function orMissing(id: string): Promise<Job | undefined> {
  try {
    return await getJob(id)
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return undefined
    throw error
  }
}
