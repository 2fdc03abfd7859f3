import { allStreamPath } from '../api'
import type { List } from '../types'
import { HistoryThenLive } from './history.svelte'
import { first } from './pages'
import { throttle } from './throttle'

const pageSize = 20

/** The newest things of a kind, kept up to date by the event stream. */
export abstract class LiveList<Answer extends { id: string }, Item> extends HistoryThenLive<List<Answer>> {
  items: Item[] = $state.raw([])
  hasMore = $state(false)

  /** How many somebody wants to see. */
  #wanted = pageSize
  readonly #list: (limit: number, after?: string) => Promise<List<Answer>>
  protected readonly reloadSoon: () => void

  constructor(list: (limit: number, after?: string) => Promise<List<Answer>>, reloadPause: number) {
    super()
    this.#list = list
    this.reloadSoon = throttle(reloadPause, () => this.reload())
  }

  protected abstract item(answer: Answer): Item

  start(): () => void {
    return this.follow(allStreamPath)
  }

  more(): void {
    this.#wanted = this.items.length + pageSize
    this.reload()
  }

  protected override load(): Promise<List<Answer>> {
    return first(this.#list, this.#wanted)
  }

  protected override show({ data, has_more }: List<Answer>): void {
    this.items = data.map((answer) => this.item(answer))
    this.hasMore = has_more
  }
}
