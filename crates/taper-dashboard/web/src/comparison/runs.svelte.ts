import { LiveCurves } from '../live/curves.svelte'
import { limit } from '../live/limit'
import { throttle } from '../live/throttle'
import type { Curve } from '../curves'
import type { Metrics, StreamEvent } from '../types'

const historyPoints = 600
/** A browser has six connections to a server, and the event stream holds one. */
const atATime = 4
const redrawPause = 250

type Limit = ReturnType<typeof limit>

/** A run waits for its turn to be loaded. */
class Run extends LiveCurves {
  readonly #limit: Limit

  constructor(limit: Limit, ...others: ConstructorParameters<typeof LiveCurves>) {
    super(...others)
    this.#limit = limit
  }

  protected override load(): Promise<Metrics> {
    return this.#limit(() => super.load())
  }
}

/** The curves of several jobs: loaded when they are first wanted, then kept up by events. */
export class LiveRuns {
  /** Raised when a curve has changed. */
  revision = $state(0)

  readonly #runs = new Map<string, Run>()
  #names: readonly string[] = []
  readonly #limit = limit(atATime)
  readonly #redraw = throttle(redrawPause, () => (this.revision += 1))

  /** Why a curve could not be loaded. */
  get problem(): string | undefined {
    void this.revision
    return [...this.#runs.values()].find(({ problem }) => problem !== undefined)?.problem
  }

  /** A job's curve of a figure; `undefined` before it is loaded. */
  curve(job: string, name: string): Curve | undefined {
    return this.#runs.get(job)?.curves.of(name)
  }

  /** Loads those figures of those jobs that have not been loaded yet. */
  want(jobs: readonly string[], names: readonly string[]): void {
    if (names.some((name) => !this.#names.includes(name))) {
      this.#names = [...new Set([...this.#names, ...names])]
      this.reload()
    }
    for (const job of jobs) {
      if (this.#runs.has(job)) continue
      const run = new Run(this.#limit, job, () => this.#names, historyPoints, this.#redraw)
      this.#runs.set(job, run)
      run.reload()
    }
  }

  /** Loads everything again that was wanted so far. */
  reload(): void {
    for (const run of this.#runs.values()) run.reload()
  }

  event(event: StreamEvent): void {
    this.#runs.get(event.job)?.event(event)
  }
}
