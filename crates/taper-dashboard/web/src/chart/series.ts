import type { Values } from '../curves'
import type { Marker } from './marker'

/** How one curve of a chart looks. */
export interface Series {
  label: string
  /** Name of a custom property of the style sheet, for instance `--curve-train`. */
  colour: string
  /** Drawn thin and pale, behind the others. */
  faint?: boolean
  /** Lengths of strokes and gaps in pixels; absent = a whole line. */
  dash?: readonly number[]
  /** A mark at the values, for figures that are far apart. */
  marker?: Marker
  /** Curves of one group are emphasised together. */
  group?: number
}

export type ChartData = [number[], ...Values[]]

/** The value of a curve at an index, or the nearest one before it. */
export function valueAt(column: Values, index: number): number | null | undefined {
  for (let i = index; i >= 0; i -= 1) if (column[i] !== undefined) return column[i]
  return undefined
}
