import type { Buckets, Job, JobEvent, Metrics } from './types'

/** `null` is a value that is not finite, `undefined` no value at that step. */
export type Values = (number | null | undefined)[]

/** Figures by name; `null` is one that is not finite. */
export type Figures = Job['metrics']

/** The figures among the data of an event. */
export const figures = (data: Record<string, unknown>): Figures =>
  Object.fromEntries(Object.entries(data).filter((entry): entry is [string, number | null] => typeof (entry[1] ?? 0) === 'number'))

/** One figure over the steps, ascending. */
export class Curve {
  readonly steps: number[] = []
  readonly values: Values = []

  /** Sets the value at a step; the same step again takes the newer value. */
  set(step: number, value: number | null): void {
    let at = this.steps.length
    while (at > 0 && this.steps[at - 1]! >= step) at -= 1
    const known = this.steps[at] === step
    this.steps.splice(at, known ? 1 : 0, step)
    this.values.splice(at, known ? 1 : 0, value)
  }

  /** Drops everything beyond a step. */
  rewind(step: number): void {
    const end = this.steps.findIndex((s) => s > step)
    if (end >= 0) this.steps.length = this.values.length = end
  }

  get last(): number | null | undefined {
    return this.values[this.values.length - 1]
  }

  get lastStep(): number {
    return this.steps[this.steps.length - 1] ?? 0
  }
}

/** The curves of one job, from the history and from the events that follow it. */
export class Curves {
  readonly #curves = new Map<string, Curve>()

  constructor(history?: Pick<Metrics, 'data'>) {
    for (const [name, buckets] of Object.entries(history?.data ?? {})) fill(this.of(name), buckets)
  }

  of(name: string): Curve {
    let curve = this.#curves.get(name)
    if (curve === undefined) this.#curves.set(name, (curve = new Curve()))
    return curve
  }

  get lastStep(): number {
    return Math.max(0, ...[...this.#curves.values()].map((curve) => curve.lastStep))
  }

  /**
   * Takes over an event of the run. Answers whether the curves are whole: a new attempt repeats what lay beyond the checkpoint that it goes on
   * from, and where the event does not say from which, the history has to be loaded anew.
   */
  take({ type, data }: Pick<JobEvent, 'type' | 'data'>): boolean {
    if (!data) return true
    if (type === 'metrics') this.add(figures(data))
    if (typeof data.resumed_from_step === 'number') this.rewind(data.resumed_from_step)
    else if (data.status === 'running' && typeof data.attempt === 'number' && data.attempt > 1) return false
    return true
  }

  /** Takes over the figures of a step. */
  add({ step, ...others }: Figures): void {
    if (typeof step === 'number') for (const [name, value] of Object.entries(others)) this.of(name).set(step, value)
  }

  /** A run that went on from `step` repeats what it had done beyond it. */
  rewind(step: number): void {
    for (const curve of this.#curves.values()) curve.rewind(step)
  }
}

/** A bucket of several steps gives its lowest, highest and last value, so that no spike is lost. */
function fill(curve: Curve, { from, to, min, max, last }: Buckets): void {
  to.forEach((end, i) => {
    const start = from[i]!
    if (start < end) {
      curve.set(start, min[i]!)
      if (end - start > 1) curve.set(Math.floor((start + end) / 2), max[i]!)
    }
    curve.set(end, last[i]!)
  })
}

/** Lays curves over one ascending axis of steps, as uPlot wants it. */
export function align(curves: { steps: number[]; values: Values }[]): [number[], ...Values[]] {
  const steps = [...new Set(curves.flatMap((curve) => curve.steps))].sort((a, b) => a - b)
  const place = new Map(steps.map((step, i) => [step, i]))
  const columns = curves.map((curve) => {
    const column = new Array<Values[number]>(steps.length).fill(undefined)
    curve.steps.forEach((step, i) => (column[place.get(step)!] = curve.values[i]))
    return column
  })
  return [steps, ...columns]
}
