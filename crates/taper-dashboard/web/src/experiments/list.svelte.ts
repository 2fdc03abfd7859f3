import { listExperiments } from '../api'
import { LiveList } from '../live/list.svelte'
import { isTerminal, type Experiment, type StreamEvent } from '../types'

const reloadPause = 2000

/** The newest experiments. */
export class ExperimentList extends LiveList<Experiment, Experiment> {
  constructor() {
    super(listExperiments, reloadPause)
  }

  protected override item(experiment: Experiment): Experiment {
    return experiment
  }

  /** A first event may be that of a new experiment's run; all others matter only to experiments that are under way. */
  protected override apply({ seq, job }: StreamEvent): void {
    if (seq === 1 || this.items.some(({ status, jobs }) => !isTerminal(status) && jobs.includes(job))) this.reloadSoon()
  }
}
