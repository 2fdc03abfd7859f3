import type { ComparisonRow, Objective } from '../types'
import { look, mostAtOnce, type Look } from './look'
import { ranked } from './row'
import type { LiveRuns } from './runs.svelte'

/** A configuration of a comparison, and how it is drawn. */
export interface Contestant {
  row: ComparisonRow
  look: Look
}

/** What is compared, and what of it somebody wants to see. */
export class Contest {
  rows: ComparisonRow[] = $state.raw([])
  objective: Objective = $state.raw({ metric: 'valid_loss', direction: 'min' })
  /** The configuration with the best figure. */
  best: number | null = $state(null)
  /** The configuration that is pointed at, in any chart or list. */
  emphasis: number | undefined = $state()
  readonly runs: LiveRuns
  /** What was asked for by hand; the others are seen as long as they are among the best. */
  #wishes: ReadonlyMap<number, boolean> = $state.raw(new Map())

  readonly all: Contestant[] = $derived(this.rows.map((row) => ({ row, look: look(row.configuration) })))
  readonly ranked: ComparisonRow[] = $derived(ranked(this.rows, this.objective, this.best))
  readonly #leaders = $derived(new Set(this.ranked.slice(0, mostAtOnce).map(({ configuration }) => configuration)))
  readonly shown: Contestant[] = $derived(this.all.filter(({ row }) => this.isShown(row)))

  constructor(runs: LiveRuns) {
    this.runs = runs
  }

  isShown({ configuration }: ComparisonRow): boolean {
    return this.#wishes.get(configuration) ?? this.#leaders.has(configuration)
  }

  toggle(row: ComparisonRow): void {
    this.#wishes = new Map(this.#wishes).set(row.configuration, !this.isShown(row))
  }

  showAll(shown: boolean): void {
    this.#wishes = new Map(this.rows.map(({ configuration }) => [configuration, shown]))
  }
}
