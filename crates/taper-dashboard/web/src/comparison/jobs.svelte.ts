import { ApiError, getJob, jobStreamPath } from '../api'
import { throttle } from '../live/throttle'
import { settings } from '../settings.svelte'
import { isTerminal, type Job, type Objective } from '../types'
import { LiveComparison } from './live.svelte'
import { rowsOf } from './row'

/** In the order in which a common figure is looked for; the first that a job has is what they are compared by. */
const objectives: readonly Objective[] = [
  { metric: 'valid_accuracy', direction: 'max' },
  { metric: 'valid_loss', direction: 'min' },
  { metric: 'train_loss', direction: 'min' },
]
const refreshPause = 1000

const allEnded = (jobs: readonly Job[]) => jobs.every(({ status }) => isTerminal(status))

/** Jobs that were chosen by hand, compared as if they were an experiment. */
export class LiveJobs extends LiveComparison<(Job | undefined)[]> {
  jobs: Job[] = $state.raw([])
  /** Ids of which there is no job. */
  missingJobs: string[] = $state.raw([])

  readonly ids: readonly string[]
  protected override readonly apply = throttle(refreshPause, () => this.refresh())

  constructor(ids: readonly string[]) {
    super()
    this.ids = ids
  }

  start(): () => void {
    return this.follow(jobStreamPath(this.ids))
  }

  protected override async load(): Promise<(Job | undefined)[]> {
    // The labels have the titles of the methods in them.
    await settings.load()
    return Promise.all(this.ids.map(findJob))
  }

  protected override show(found: (Job | undefined)[]): void {
    const before = this.jobs
    this.jobs = found.filter((job) => job !== undefined)
    this.missingJobs = this.ids.filter((_, i) => found[i] === undefined)
    const objective = objectives.find(({ metric }) => this.jobs.some((job) => metric in job.metrics)) ?? objectives[0]!
    Object.assign(this.comparison, { objective, ...rowsOf(this.jobs, objective, (name) => settings.methodTitle(name)) })
    if (allEnded(this.jobs)) this.ended(!allEnded(before))
  }
}

/** A job, or nothing where there is none of that id. */
async function findJob(id: string): Promise<Job | undefined> {
  try {
    return await getJob(id)
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return undefined
    throw error
  }
}
