import { getMetrics } from '../api'
import { Curves } from '../curves'
import type { Metrics, StreamEvent } from '../types'
import { HistoryThenLive } from './history.svelte'

/** The curves of one job, of the figures that are asked for. */
export class LiveCurves extends HistoryThenLive<Metrics> {
  curves = new Curves()

  readonly #job: string
  readonly #names: () => readonly string[]
  readonly #points: number
  readonly #changed: () => void

  /** `points` is the most for each figure; `changed` is called after each change of `curves`, and when they could not be loaded. */
  constructor(job: string, names: () => readonly string[], points: number, changed: () => void) {
    super()
    this.#job = job
    this.#names = names
    this.#points = points
    this.#changed = changed
  }

  protected override load(): Promise<Metrics> {
    return getMetrics(this.#job, this.#names(), this.#points)
  }

  protected override show(history: Metrics): void {
    this.curves = new Curves(history)
    this.#changed()
  }

  protected override apply(event: StreamEvent): void {
    if (!this.curves.take(event)) this.reload()
    this.#changed()
  }

  protected override failed(error: unknown): void {
    super.failed(error)
    this.#changed()
  }
}
