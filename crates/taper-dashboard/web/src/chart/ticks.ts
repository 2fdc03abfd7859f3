/** Round values inside [low, high] for a logarithmic axis: powers of ten times 1, 2 and 5, or evenly spaced ones where the range is narrow. */
export function logTicks(low: number, high: number): number[] {
  const ticks: number[] = []
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const digit of [1, 2, 5]) {
      const tick = Number(`${digit}e${power}`)
      if (tick >= low && tick <= high) ticks.push(tick)
    }
  }
  if (ticks.length >= 3 && ticks.length <= 8) return ticks
  if (ticks.length > 8) return ticks.filter((tick) => /^1(e|0|$)|^0\.0*1$/.test(String(tick)))
  return linearTicks(low, high, 5)
}

/** About `wanted` round values inside [low, high]. */
export function linearTicks(low: number, high: number, wanted: number): number[] {
  const raw = (high - low) / wanted
  const power = 10 ** Math.floor(Math.log10(raw))
  const step = power * ([1, 2, 5, 10].find((digit) => digit * power >= raw) ?? 10)
  const ticks: number[] = []
  for (let i = Math.ceil(low / step); i * step <= high; i += 1) ticks.push(Number((i * step).toPrecision(12)))
  return ticks
}
