import { allStreamPath, listExperiments, reason } from '../api'
import { singleFlight } from '../live/flight'
import { first } from '../live/pages'
import { stream, type Follower } from '../live/stream.svelte'
import { throttle } from '../live/throttle'
import { isTerminal, type Experiment, type StreamEvent } from '../types'

const pageSize = 20
const reloadPause = 2000

/** The newest experiments, kept up to date by the event stream. */
export class ExperimentList implements Follower {
  experiments: Experiment[] = $state.raw([])
  hasMore = $state(false)
  loaded = $state(false)
  problem: string | undefined = $state()

  /** How many somebody wants to see. */
  #wanted = pageSize
  readonly #refresh = singleFlight(() => this.#load())
  readonly #reloadSoon = throttle(reloadPause, () => this.reload())

  start(): () => void {
    return stream.follow(allStreamPath, this)
  }

  reload(): void {
    void this.#refresh()
  }

  async #load(): Promise<void> {
    try {
      const page = await first(listExperiments, this.#wanted)
      this.experiments = page.data
      this.hasMore = page.has_more
      this.loaded = true
      this.problem = undefined
    } catch (error) {
      this.problem = reason(error)
    }
  }

  more(): void {
    this.#wanted = this.experiments.length + pageSize
    this.reload()
  }

  /** A first event may be that of a new experiment's run; all others matter only to experiments that are under way. */
  event(event: StreamEvent): void {
    if (event.seq === 1 || this.experiments.some(({ status, jobs }) => !isTerminal(status) && jobs.includes(event.job))) this.#reloadSoon()
  }
}
