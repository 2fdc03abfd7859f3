import { getMetrics, reason } from '../api'
import { Curves, type Curve } from '../curves'
import { throttle } from '../live/throttle'
import type { StreamEvent } from '../types'

const historyPoints = 600
/** A browser has six connections to a server, and the event stream holds one. */
const atATime = 4
const redrawPause = 250

/** The curves of one job and the events that arrived while they were being loaded. */
class Run {
  curves = new Curves()
  waiting: StreamEvent[] | undefined

  apply(event: StreamEvent): void {
    const data = event.data ?? {}
    if (event.type === 'metrics') this.curves.add(data)
    else if (typeof data.resumed_from_step === 'number') this.curves.rewind(data.resumed_from_step)
  }
}

/** The curves of several jobs: loaded when they are first wanted, then kept up by events. */
export class LiveRuns {
  /** Raised when a curve has changed. */
  revision = $state(0)
  problem: string | undefined = $state()

  readonly #runs = new Map<string, Run>()
  readonly #names: readonly string[]
  readonly #queue: string[] = []
  #loading = 0
  readonly #redraw = throttle(redrawPause, () => (this.revision += 1))

  constructor(names: readonly string[]) {
    this.#names = names
  }

  /** A job's curve of a figure; `undefined` before it is loaded. */
  curve(job: string, name: string): Curve | undefined {
    return this.#runs.get(job)?.curves.of(name)
  }

  /** Loads what has not been loaded yet. */
  want(jobs: readonly string[]): void {
    for (const job of jobs) {
      if (this.#runs.has(job)) continue
      this.#runs.set(job, new Run())
      this.#load(job)
    }
  }

  /** Loads everything again that was wanted so far. */
  reload(): void {
    for (const job of this.#runs.keys()) this.#load(job)
  }

  event(event: StreamEvent): void {
    const run = this.#runs.get(event.job)
    if (run === undefined) return
    if (run.waiting) run.waiting.push(event)
    else if (isNewAttempt(event)) this.#load(event.job)
    else run.apply(event)
    this.#redraw()
  }

  #load(job: string): void {
    const run = this.#runs.get(job)
    if (run === undefined) return
    // A new list, so that an answer on its way to an earlier question is known to be stale.
    run.waiting = [...(run.waiting ?? [])]
    if (!this.#queue.includes(job)) this.#queue.push(job)
    this.#next()
  }

  #next(): void {
    if (this.#loading >= atATime) return
    const job = this.#queue.shift()
    if (job === undefined) return
    this.#loading += 1
    void this.#fetch(job).finally(() => {
      this.#loading -= 1
      this.#redraw()
      this.#next()
    })
  }

  async #fetch(job: string): Promise<void> {
    const run = this.#runs.get(job)
    if (run === undefined) return
    const { waiting } = run
    try {
      const history = await getMetrics(job, this.#names, historyPoints)
      if (run.waiting !== waiting) return
      run.curves = new Curves(history)
      this.problem = undefined
    } catch (error) {
      this.problem = reason(error)
    }
    if (run.waiting !== waiting) return
    run.waiting = undefined
    for (const event of waiting ?? []) run.apply(event)
  }
}

/** A new attempt repeats what lay beyond the checkpoint it goes on from; the server has dropped that from the history. */
function isNewAttempt({ data }: StreamEvent): boolean {
  return data?.status === 'running' && typeof data.attempt === 'number' && data.attempt > 1
}
