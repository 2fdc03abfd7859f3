import { LivePage } from '../live/history.svelte'
import type { StreamEvent } from '../types'
import { LiveRuns } from './runs.svelte'
import { ComparisonState } from './state.svelte'

/** A comparison whose curves follow the events of its runs, and whose table is loaded anew after them. */
export abstract class LiveComparison<History> extends LivePage<History> {
  readonly comparison = new ComparisonState(new LiveRuns())

  override reload(): void {
    this.comparison.runs.reload()
    super.reload()
  }

  override event(event: StreamEvent): void {
    this.comparison.runs.event(event)
    super.event(event)
  }

  override get trouble(): string | undefined {
    return this.problem ?? this.comparison.runs.problem
  }

  /** All runs have ended. The last events of those that were seen to run may not have come. */
  protected ended(seenRunning: boolean): void {
    this.finish()
    if (seenRunning) this.comparison.runs.reload()
  }
}
