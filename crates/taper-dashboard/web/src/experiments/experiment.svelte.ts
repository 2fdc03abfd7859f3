import { experimentStreamPath, getExperiment } from '../api'
import { LiveComparison } from '../comparison/live.svelte'
import { throttle } from '../live/throttle'
import { isTerminal, type Experiment, type StreamEvent } from '../types'

/** A change of state is shown at once, progress now and then: the server computes the whole table for each answer. */
const statePause = 300
const progressPause = 2500

/** All that the page shows of one experiment. */
export class LiveExperiment extends LiveComparison<Experiment> {
  experiment: Experiment | undefined = $state.raw()

  readonly id: string
  readonly #refreshSoon = throttle(statePause, () => this.refresh())
  readonly #refreshLater = throttle(progressPause, () => this.refresh())

  constructor(id: string) {
    super()
    this.id = id
  }

  start(): () => void {
    return this.follow(experimentStreamPath(this.id))
  }

  protected override load(): Promise<Experiment> {
    return getExperiment(this.id)
  }

  protected override apply(event: StreamEvent): void {
    if (event.type === 'metrics') this.#refreshLater()
    else this.#refreshSoon()
  }

  override show(experiment: Experiment): void {
    const before = this.experiment
    this.experiment = experiment
    const { table: rows, objective, best } = experiment
    Object.assign(this.comparison, { rows, objective, best })
    if (!isTerminal(experiment.status)) return
    this.ended(before !== undefined && !isTerminal(before.status))
    // What rests on the intervals comes once they are made, and no event tells of it.
    if (experiment.best !== null && experiment.recommendation === null) this.#refreshLater()
  }
}
