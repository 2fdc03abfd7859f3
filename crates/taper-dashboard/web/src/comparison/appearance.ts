import { markers, type Marker } from '../chart/marker'

/** How a configuration is told from the others, the same in every chart and table. */
export interface Appearance {
  /** Name of a custom property of the style sheet. */
  colour: string
  /** Lengths of strokes and gaps; absent = a whole line. */
  dash?: readonly number[]
  marker: Marker
}

const colours = 6
/** The same colour comes back with another line and another mark. */
const dashes: readonly (readonly number[] | undefined)[] = [undefined, [7, 4], [2, 3]]

/** As many configurations as can be told apart at a glance. */
export const mostAtOnce = 12

/** The appearance of the n-th configuration. */
export const appearance = (n: number): Appearance => ({
  colour: `--run-${n % colours}`,
  dash: dashes[Math.floor(n / colours) % dashes.length],
  marker: markers[n % markers.length]!,
})
