import { ApiError, experimentStreamPath, getExperiment, reason } from '../api'
import { ComparisonState } from '../comparison/state.svelte'
import { LiveRuns } from '../comparison/runs.svelte'
import { singleFlight } from '../live/flight'
import { stream, type Follower } from '../live/stream.svelte'
import { throttle } from '../live/throttle'
import { isTerminal, type Experiment, type StreamEvent } from '../types'

/** What the charts may ask for: an experiment's objective is one of these. */
const figures = ['train_loss', 'valid_loss', 'valid_accuracy', 'valid_macro_f1', 'valid_perplexity', 'valid_mean_token_accuracy']
/** A change of state is shown at once, progress now and then: the server reckons the whole table for each answer. */
const statePause = 300
const progressPause = 2500

/** All that the page shows of one experiment. */
export class LiveExperiment implements Follower {
  experiment: Experiment | undefined = $state.raw()
  problem: string | undefined = $state()
  missing = $state(false)
  readonly comparison = new ComparisonState(new LiveRuns(figures))

  readonly id: string
  readonly #refresh = singleFlight(() => this.#load())
  readonly #refreshSoon = throttle(statePause, () => void this.#refresh())
  readonly #refreshLater = throttle(progressPause, () => void this.#refresh())

  constructor(id: string) {
    this.id = id
  }

  start(): () => void {
    return stream.follow(experimentStreamPath(this.id), this)
  }

  reload(): void {
    this.comparison.runs.reload()
    void this.#refresh()
  }

  event(event: StreamEvent): void {
    this.comparison.runs.event(event)
    if (event.type === 'metrics') this.#refreshLater()
    else this.#refreshSoon()
  }

  /** Takes over a newer answer. */
  changed(experiment: Experiment): void {
    const before = this.experiment
    this.experiment = experiment
    this.comparison.rows = experiment.table
    this.comparison.objective = experiment.objective
    this.comparison.best = experiment.best
    if (!isTerminal(experiment.status)) return
    stream.finish()
    // What rests on the intervals comes once they are made, and no event tells of it.
    if (experiment.best !== null && experiment.recommendation === null) this.#refreshLater()
    // The last events may not have come before the end was known.
    if (before && !isTerminal(before.status)) this.comparison.runs.reload()
  }

  async #load(): Promise<void> {
    try {
      this.changed(await getExperiment(this.id))
      this.problem = undefined
    } catch (error) {
      this.missing = error instanceof ApiError && error.status === 404
      this.problem = reason(error)
      if (this.missing) stream.finish()
    }
  }
}
