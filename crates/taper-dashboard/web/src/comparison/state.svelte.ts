import type { ComparisonRow, Objective } from '../types'
import { appearance, mostAtOnce, type Appearance } from './appearance'
import { ranked } from './row'
import type { LiveRuns } from './runs.svelte'

/** A configuration of a comparison, and how it is drawn. */
export interface Configuration {
  row: ComparisonRow
  appearance: Appearance
}

/** What is compared, and what of it somebody wants to see. */
export class ComparisonState {
  rows: ComparisonRow[] = $state.raw([])
  objective: Objective = $state.raw({ metric: 'valid_loss', direction: 'min' })
  /** The configuration with the best figure. */
  best: number | null = $state(null)
  /** The configuration that is pointed at, in any chart or list. */
  emphasis: number | undefined = $state()
  readonly runs: LiveRuns
  /** What was asked for by hand; the others are seen as long as they are among the best. */
  #chosen: ReadonlyMap<number, boolean> = $state.raw(new Map())

  readonly all: Configuration[] = $derived(this.rows.map((row) => ({ row, appearance: appearance(row.configuration) })))
  readonly ranked: ComparisonRow[] = $derived(ranked(this.rows, this.objective, this.best))
  readonly #leaders = $derived(new Set(this.ranked.slice(0, mostAtOnce).map(({ configuration }) => configuration)))
  readonly shown: Configuration[] = $derived(this.all.filter(({ row }) => this.isShown(row)))

  constructor(runs: LiveRuns) {
    this.runs = runs
  }

  isShown({ configuration }: ComparisonRow): boolean {
    return this.#chosen.get(configuration) ?? this.#leaders.has(configuration)
  }

  toggle(row: ComparisonRow): void {
    this.#chosen = new Map(this.#chosen).set(row.configuration, !this.isShown(row))
  }

  showAll(shown: boolean): void {
    this.#chosen = new Map(this.rows.map(({ configuration }) => [configuration, shown]))
  }
}
