import type { Values } from './curves'

/** Exponential moving average of `values`, freed of the pull towards its start at zero; a gap stays a gap. `weight` in [0, 1). */
export function smooth(values: Values, weight: number): Values {
  let sum = 0
  let norm = 0
  return values.map((value) => {
    if (value === null || value === undefined) return value
    sum = weight * sum + (1 - weight) * value
    norm = weight * norm + (1 - weight)
    return sum / norm
  })
}
