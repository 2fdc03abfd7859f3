import type { Curve, Values } from '../curves'

/** The mean of curves at the steps where each of them has a finite value. */
export function mean(curves: readonly Pick<Curve, 'steps' | 'values'>[]): { steps: number[]; values: Values } {
  const [first, ...others] = curves
  if (first === undefined || others.length === 0) return { steps: first?.steps ?? [], values: first?.values ?? [] }
  const sums = new Map<number, { sum: number; seen: number }>()
  for (const { steps, values } of curves) {
    steps.forEach((step, i) => {
      const value = values[i]
      if (typeof value !== 'number') return
      const { sum, seen } = sums.get(step) ?? { sum: 0, seen: 0 }
      sums.set(step, { sum: sum + value, seen: seen + 1 })
    })
  }
  const common = [...sums].filter(([, { seen }]) => seen === curves.length).sort(([a], [b]) => a - b)
  return { steps: common.map(([step]) => step), values: common.map(([, { sum, seen }]) => sum / seen) }
}
