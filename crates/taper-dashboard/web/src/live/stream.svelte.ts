import { streamed } from '../client'
import type { StreamEvent } from '../types'

export interface Follower {
  event(event: StreamEvent): void
  /** The events so far may have gaps: load everything again. */
  reload(): void
}

const firstPause = 1000
const longestPause = 30_000
/** A tab that nobody sees gives its connection back: a browser has six for all tabs together. */
const hiddenPause = 60_000

/** The one event stream of this tab. */
class EventStream {
  state = $state<'idle' | 'connecting' | 'live' | 'reconnecting' | 'finished'>('idle')
  /** When something last arrived, in milliseconds since 1970. */
  lastData = $state(0)

  #source: EventSource | undefined
  #timer: number | undefined
  #pause = firstPause
  #lastRow = 0
  #follow: { path: string; follower: Follower } | undefined

  /** Follows the stream at `path` until the returned function is called; a new follower takes the place of the last. */
  follow(path: string, follower: Follower): () => void {
    this.#close()
    const mine = (this.#follow = { path, follower })
    this.state = 'connecting'
    this.#pause = firstPause
    this.#open()
    return () => {
      if (this.#follow === mine) this.#stop('idle')
    }
  }

  /** Nothing more will come for this follower, which may have left its place to another. */
  finish(follower: Follower): void {
    if (this.#follow?.follower === follower) this.#stop('finished')
  }

  /** Has to be called when the tab is hidden or shown. */
  visibilityChanged(): void {
    if (this.#follow === undefined) return
    window.clearTimeout(this.#timer)
    if (document.hidden) {
      this.#timer = window.setTimeout(() => this.#close(), hiddenPause)
    } else if (this.#source === undefined) {
      this.state = 'reconnecting'
      this.#open()
    }
  }

  #stop(state: 'idle' | 'finished'): void {
    this.#close()
    this.#follow = undefined
    this.state = state
  }

  #open(): void {
    if (this.#follow === undefined) return
    const { path, follower } = this.#follow
    const source = (this.#source = new EventSource(path))
    // A new source starts without an id, so what it missed comes from the API; also while the stream alone is refused.
    let opened = false
    this.#lastRow = 0
    source.onopen = () => {
      this.state = 'live'
      this.#pause = firstPause
      this.lastData = Date.now()
      // Without an id the server cannot tell what was missed.
      if (!opened || this.#lastRow === 0) follower.reload()
      opened = true
    }
    source.onmessage = (message: MessageEvent<string>) => this.#received(message, follower)
    source.addEventListener('reset', () => {
      this.#lastRow = 0
      follower.reload()
    })
    source.onerror = () => {
      this.state = 'reconnecting'
      if (!opened) follower.reload()
      // The browser itself comes back with the last id, except after an answer that is not 200.
      if (source.readyState === EventSource.CLOSED) this.#openLater()
    }
  }

  #received(message: MessageEvent<string>, follower: Follower): void {
    this.lastData = Date.now()
    const row = Number(message.lastEventId)
    if (row <= this.#lastRow) return
    this.#lastRow = row
    follower.event(streamed(message.data))
  }

  #openLater(): void {
    this.#close()
    this.#timer = window.setTimeout(() => this.#open(), this.#pause * (0.75 + Math.random() / 2))
    this.#pause = Math.min(this.#pause * 2, longestPause)
  }

  #close(): void {
    window.clearTimeout(this.#timer)
    this.#source?.close()
    this.#source = undefined
  }
}

export const stream = new EventStream()
