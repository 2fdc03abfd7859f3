import { linearTicks, logTicks } from '../chart/ticks'

/** A scale from values to pixels. */
export interface Scale {
  log: boolean
  ticks: number[]
  place: (value: number) => number
}

/** A scale over all values with some air on both ends, from pixel `from` to pixel `to`; logarithmic when `log` is asked for and the values are far apart. */
export function scaleOf(values: readonly number[], from: number, to: number, log: boolean): Scale {
  const [least, most] = [Math.min(...values), Math.max(...values)]
  const wide = log && least > 0 && most / least > 20
  const forth = wide ? Math.log10 : (value: number) => value
  const back = wide ? (value: number) => 10 ** value : (value: number) => value
  const [start, end] = [forth(least), forth(most)]
  const air = end > start ? 0.1 * (end - start) : Math.abs(start) * 0.1 || 1
  // A cost is never below zero.
  const low = log && !wide ? Math.max(0, start - air) : start - air
  const high = end + air
  const ticks = wide ? logTicks(back(low), back(high)) : linearTicks(low, high, 5)
  return { log: wide, ticks, place: (value) => from + ((to - from) * (forth(value) - low)) / (high - low) }
}

/** Every tick, or every second, third …: as many as have room for their texts, which are `width` pixels wide, side by side. */
export function withRoom(ticks: readonly number[], place: (tick: number) => number, width: (tick: number) => number): number[] {
  const fit = (tick: number, i: number, kept: readonly number[]) =>
    i === 0 || place(tick) - place(kept[i - 1]!) >= (width(tick) + width(kept[i - 1]!)) / 2 + gap
  for (let each = 1; ; each += 1) {
    const kept = ticks.filter((_, i) => i % each === 0)
    if (kept.every(fit)) return kept
  }
}

export interface Label {
  x: number
  y: number
  anchor: 'start' | 'end' | 'middle'
}

interface Point {
  x: number
  y: number
  /** Half the height of its error bar. */
  spread: number
  /** Of its label. */
  width: number
}

interface Box {
  left: number
  right: number
  top: number
  bottom: number
}

const line = 15
const gap = 11

/** Places a label beside each point so that none covers a point or another label, as far as there is room inside `frame`. */
export function placeLabels(points: readonly Point[], frame: Box): Label[] {
  const taken: Box[] = points.map(({ x, y, spread }) => {
    const half = Math.max(7, spread)
    return { left: x - 7, right: x + 7, top: y - half, bottom: y + half }
  })
  return points.map((point) => {
    const candidates = around(point)
    const free = candidates.find(({ box }) => within(box, frame) && !taken.some((other) => overlap(box, other)))
    const { label, box } = free ?? candidates.find(({ box }) => within(box, frame)) ?? candidates[0]!
    taken.push(box)
    return label
  })
}

/** The places for a label, the most readable first: beside the point, above and below it, then ever farther off. */
function around({ x, y, width }: Point): { label: Label; box: Box }[] {
  const at = (label: Label) => {
    const left = label.anchor === 'start' ? label.x : label.anchor === 'end' ? label.x - width : label.x - width / 2
    return { label, box: { left, right: left + width, top: label.y - line / 2, bottom: label.y + line / 2 } }
  }
  const beside = [0, 14, -14, 28, -28, 42, -42].flatMap((shift): Label[] => [
    { x: x + gap, y: y + shift, anchor: 'start' },
    { x: x - gap, y: y + shift, anchor: 'end' },
  ])
  const stacked = [-18, 18].map((shift): Label => ({ x, y: y + shift, anchor: 'middle' }))
  return [...beside.slice(0, 2), ...stacked, ...beside.slice(2)].map(at)
}

const within = (box: Box, frame: Box) =>
  box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom

const overlap = (a: Box, b: Box) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom
