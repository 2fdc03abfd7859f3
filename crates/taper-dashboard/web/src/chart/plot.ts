import uPlot from 'uplot'
import { compact, count, figure } from '../format'
import { logTicks } from './ticks'
import type { ChartData, Series } from './series'

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
}

const font = '12px system-ui, sans-serif'

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
      scales: { x: { time: false, range: () => options.range() }, y: yScale(options.log) },
      axes: [
        { ...axis, grid: { show: false }, size: 28, space: 70, values: (_, steps) => steps.map(stepLabel) },
        { ...axis, size: labelWidth, space: 36, ...yTicks(options.log) },
      ],
      series: [{}, ...options.series.map((series) => curve(series, colour))],
      hooks: {
        setCursor: [(u) => options.onhover(u.cursor.idx ?? null)],
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
  if (!log) return data as uPlot.AlignedData
  const [steps, ...columns] = data
  const positive = columns.map((column) => column.map((v) => (typeof v === 'number' && v <= 0 ? null : v)))
  return [steps, ...positive] as uPlot.AlignedData
}

/** Reads custom properties as colours that a canvas understands. */
function colours(host: HTMLElement): (name: string) => string {
  return (name) => {
    host.style.color = `var(${name})`
    const colour = getComputedStyle(host).color
    host.style.color = ''
    return colour
  }
}

function cursor({ onzoom }: PlotOptions): uPlot.Cursor {
  return {
    drag: { x: true, y: false, setScale: false },
    points: { size: 8 },
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
  return { distr: 3, range: (_, low, high) => [low * 0.92, high * 1.08] }
}

function yTicks(log: boolean): Partial<uPlot.Axis> {
  const values: uPlot.Axis.Values = (_, ticks) => ticks.map((tick) => (tick === null ? '' : figure(tick)))
  if (!log) return { values }
  return { values, splits: (_u, _axis, low, high) => logTicks(low, high), filter: (_, ticks) => ticks }
}

/** The same for all charts as long as it can be, so that their steps stand below each other. */
function labelWidth(_: uPlot, labels: string[] | null): number {
  return Math.max(58, ...(labels ?? []).map((label) => 7.2 * label.length + 16))
}

const stepLabel = (step: number) => (step >= 100_000 ? compact(step) : Number.isInteger(step) ? count(step) : '')

function curve(series: Series, colour: (name: string) => string): uPlot.Series {
  const stroke = colour(series.colour)
  return {
    label: series.label,
    stroke,
    alpha: series.faint ? 0.32 : 1,
    width: series.faint ? 1 : 2,
    dash: series.dashed ? [6, 4] : undefined,
    points: series.dots ? { show: true, size: 6, fill: stroke } : single(stroke),
  }
}

/** A curve of one value has no line: it is drawn as a dot. */
function single(fill: string): uPlot.Series.Points {
  return { show: (u, index) => Array.from(u.data[index]!).filter(Number.isFinite).length === 1, size: 6, fill }
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
