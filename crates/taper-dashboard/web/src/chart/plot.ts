import uPlot from 'uplot'
import { compact, count, figure } from '../format'
import { markerPath, type Marker } from './marker'
import type { ChartData, Series } from './series'
import { logTicks } from './ticks'

export interface PlotOptions {
  host: HTMLElement
  height: number
  series: Series[]
  log: boolean
  /** The steps in view. */
  range: () => [number, number]
  /** Somebody has drawn a range of steps, or asks for all with `null`. */
  onzoom: (range: [number, number] | null) => void
  onhover: (index: number | null) => void
  /** The curve next to the pointer, by its place in `series`; absent = it does not matter. */
  onnear?: (series: number | null) => void
}

const font = '12px system-ui, sans-serif'
/** Pixels from the pointer to a curve that counts as next to it. */
const near = 24
/** More marks than these on a curve would hide it. */
const mostMarks = 16

/** Draws curves over steps; charts with the same key of `cursor.sync` share their cross-hair. */
export function createPlot(options: PlotOptions, data: ChartData): uPlot {
  const colour = colours(options.host)
  const axis: uPlot.Axis = {
    stroke: colour('--quiet'),
    font,
    grid: { stroke: colour('--grid'), width: 1 },
    ticks: { show: false },
  }
  return new uPlot(
    {
      width: options.host.clientWidth,
      height: options.height,
      legend: { show: false },
      padding: [10, 26, 0, 0],
      cursor: cursor(options),
      focus: { alpha: 1 },
      scales: { x: { time: false, range: () => options.range() }, y: yScale(options.log) },
      axes: [
        { ...axis, grid: { show: false }, size: 28, space: 70, values: (_, steps) => steps.map(stepLabel) },
        { ...axis, size: labelWidth, space: 36, ...yTicks(options.log) },
      ],
      series: [{}, ...options.series.map((series) => curve(series, colour))],
      hooks: {
        setCursor: [(u) => options.onhover(u.cursor.idx ?? null)],
        setSeries: [(_, i) => options.onnear?.(i === null ? null : i - 1)],
        setSelect: [(u) => selected(u, options)],
        draw: [(u) => markNonFinite(u, colour('--bad'))],
      },
    },
    drawable(data, options.log),
    options.host,
  )
}

/** The data as it can be drawn: a logarithmic axis has no place for zero and below. */
export function drawable(data: ChartData, log: boolean): uPlot.AlignedData {
  if (!log) return data
  const [steps, ...columns] = data
  const positive = columns.map((column) => column.map((v) => (typeof v === 'number' && v <= 0 ? null : v)))
  return [steps, ...positive] as uPlot.AlignedData
}

/** Draws the curves of one group as they are and the others pale, or all as they are with `undefined`. */
export function emphasise(u: uPlot, series: Series[], group: number | undefined): void {
  series.forEach((one, i) => (u.series[i + 1]!.alpha = group === undefined || one.group === group ? 1 : 0.15))
  u.redraw(false, false)
}

/** Reads custom properties as colours that a canvas understands. */
function colours(host: HTMLElement): (name: string, strength?: number) => string {
  return (name, strength = 100) => {
    host.style.color = `color-mix(in srgb, var(${name}) ${strength}%, transparent)`
    const colour = getComputedStyle(host).color
    host.style.color = ''
    return colour
  }
}

function cursor({ onzoom, onnear }: PlotOptions): uPlot.Cursor {
  return {
    drag: { x: true, y: false, setScale: false },
    points: { size: 8 },
    focus: { prox: onnear ? near : -1 },
    bind: {
      dblclick: () => () => {
        onzoom(null)
        return null
      },
    },
    sync: { key: 'steps', scales: ['x', null], filters: { pub: (type) => type === 'mousemove' || type === 'mouseleave', sub: () => true } },
  }
}

function selected(u: uPlot, { onzoom }: PlotOptions): void {
  const { left, width } = u.select
  if (width < 4) return
  onzoom([u.posToVal(left, 'x'), u.posToVal(left + width, 'x')])
  u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
}

function yScale(log: boolean): uPlot.Scale {
  if (!log) return {}
  // The enum of uPlot's types has no value at run time.
  // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment
  return { distr: 3, range: (_, low, high) => [low * 0.92, high * 1.08] }
}

function yTicks(log: boolean): Partial<uPlot.Axis> {
  const values: uPlot.Axis.Values = (_, ticks) => ticks.map((tick) => figure(tick))
  if (!log) return { values }
  return { values, splits: (_u, _axis, low, high) => logTicks(low, high), filter: (_, ticks) => ticks }
}

/** The same for all charts as long as it can be, so that their steps stand below each other. */
function labelWidth(_: uPlot, labels: string[] | null): number {
  return Math.max(58, ...(labels ?? []).map((label) => 7.2 * label.length + 16))
}

const stepLabel = (step: number) => (step >= 100_000 ? compact(step) : Number.isInteger(step) ? count(step) : '')

function curve(series: Series, colour: ReturnType<typeof colours>): uPlot.Series {
  const stroke = colour(series.colour, series.faint ? 32 : 100)
  return {
    label: series.label,
    stroke,
    width: series.faint ? 1 : 2,
    dash: series.dash?.slice(),
    points: series.marker ? { show: true, size: 6, fill: stroke, paths: marks(series.marker) } : single(stroke),
  }
}

/** A curve of one value has no line: it is drawn as a dot. */
function single(fill: string): uPlot.Series.Points {
  return { show: (u, index) => Array.from(u.data[index]!).filter(Number.isFinite).length === 1, size: 6, fill }
}

/** Marks at the values, at every n-th of many. */
function marks(marker: Marker): uPlot.Series.Points.PathBuilder {
  return (u, index, from, to) => {
    const column = u.data[index]!
    const valued: number[] = []
    for (let i = from; i <= to; i += 1) if (typeof column[i] === 'number') valued.push(i)
    const every = Math.ceil(valued.length / mostMarks)
    const path = new Path2D()
    for (const i of valued.filter((_, n) => (valued.length - 1 - n) % every === 0)) {
      const [x, y] = [u.valToPos(u.data[0][i]!, 'x', true), u.valToPos(column[i]!, 'y', true)]
      path.addPath(new Path2D(markerPath(marker, x, y, 3.2 * devicePixelRatio)))
    }
    const { left, top, width, height } = u.bbox
    const clip = new Path2D()
    clip.rect(left - 8, top - 8, width + 16, height + 16)
    return { stroke: null, fill: path, clip }
  }
}

/** A small triangle on the axis at each step whose value is not finite. */
function markNonFinite(u: uPlot, colour: string): void {
  const { ctx, bbox } = u
  const size = 5 * devicePixelRatio
  const base = bbox.top + bbox.height
  ctx.save()
  ctx.fillStyle = colour
  u.data[0].forEach((step, i) => {
    if (!u.data.slice(1).some((column) => column[i] === null)) return
    const x = u.valToPos(step, 'x', true)
    if (x < bbox.left || x > bbox.left + bbox.width) return
    ctx.beginPath()
    ctx.moveTo(x, base - 1.6 * size)
    ctx.lineTo(x - size, base)
    ctx.lineTo(x + size, base)
    ctx.fill()
  })
  ctx.restore()
}
