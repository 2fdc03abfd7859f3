import { ApiError, reason } from '../api'
import type { StreamEvent } from '../types'
import { singleFlight } from './flight'
import { stream, type Follower } from './stream.svelte'

/** What a page shows: first what the API tells of it so far, then what the event stream adds. */
export abstract class HistoryThenLive<History> implements Follower {
  /** Why it could not be loaded the last time. */
  problem: string | undefined = $state()
  /** It has been loaded at least once. */
  loaded = $state(false)

  /** Events that arrive while the history is being loaded, to be applied on top of it. */
  #waiting: StreamEvent[] | undefined
  readonly #loadOnce = singleFlight(() => this.#load())

  protected abstract load(): Promise<History>
  /** Takes the place of all that was shown. */
  protected abstract show(history: History): void
  /** Takes over an event, which the history may have already: the answers that it comes in are not of one moment. */
  protected abstract apply(event: StreamEvent): void

  /** Shows what the stream at `path` tells, until the returned function is called. */
  protected follow(path: string): () => void {
    return stream.follow(path, this)
  }

  /** Nothing more will come: the connection goes back to the browser, and what waits is in the history already. */
  protected finish(): void {
    stream.finish(this)
    this.#waiting?.splice(0)
  }

  /** Loads everything again. */
  reload(): void {
    this.refresh()
  }

  protected refresh(): void {
    void this.#loadOnce()
  }

  event(event: StreamEvent): void {
    if (this.#waiting === undefined) this.apply(event)
    else this.#waiting.push(event)
  }

  async #load(): Promise<void> {
    const waiting: StreamEvent[] = (this.#waiting = [])
    try {
      this.show(await this.load())
      this.loaded = true
      this.problem = undefined
    } catch (error) {
      this.failed(error)
    }
    this.#waiting = undefined
    for (const event of waiting) this.apply(event)
  }

  protected failed(error: unknown): void {
    this.problem = reason(error)
  }
}

/** What a page shows of one thing, which may be gone. */
export abstract class LivePage<History> extends HistoryThenLive<History> {
  /** There is nothing of that id. */
  missing = $state(false)

  /** What could not be loaded, of it or of its parts. */
  get trouble(): string | undefined {
    return this.problem
  }

  protected override failed(error: unknown): void {
    super.failed(error)
    this.missing = error instanceof ApiError && error.status === 404
    if (this.missing) this.finish()
  }
}
