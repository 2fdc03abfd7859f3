export const markers = ['circle', 'square', 'triangle', 'diamond'] as const
export type Marker = (typeof markers)[number]

/** The corners of a mark of radius 1 around the origin, all marks of about the same area; a circle has none. */
const corners: Record<Exclude<Marker, 'circle'>, readonly (readonly [number, number])[]> = {
  square: [
    [-0.9, -0.9],
    [0.9, -0.9],
    [0.9, 0.9],
    [-0.9, 0.9],
  ],
  triangle: [
    [0, -1.25],
    [1.2, 0.85],
    [-1.2, 0.85],
  ],
  diamond: [
    [0, -1.35],
    [1.35, 0],
    [0, 1.35],
    [-1.35, 0],
  ],
}

/** A mark as the path of an SVG. */
export function markerPath(marker: Marker, x: number, y: number, radius: number): string {
  if (marker === 'circle')
    return `M${x - radius} ${y}a${radius} ${radius} 0 1 0 ${2 * radius} 0a${radius} ${radius} 0 1 0 ${-2 * radius} 0z`
  return `M${corners[marker].map(([dx, dy]) => `${x + dx * radius} ${y + dy * radius}`).join('L')}z`
}
