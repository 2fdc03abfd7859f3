import type { ComparisonRow } from '../types'

export interface Difference {
  /** For instance `tuning.r`. */
  path: string
  /** One for each row; `undefined` where the configuration has no such setting. */
  values: unknown[]
}

/** The settings in which configurations that have them differ, in the order in which they are met. */
export function differences(rows: readonly Pick<ComparisonRow, 'tuning' | 'training'>[]): Difference[] {
  const settings = rows.map(({ tuning, training }) => ({ ...prefixed('tuning', tuning), ...prefixed('training', training) }))
  const paths = [...new Set(settings.flatMap(Object.keys))]
  return paths
    .map((path) => ({ path, values: settings.map((setting) => setting[path]) }))
    .filter(({ values }) => new Set(values.filter((value) => value !== undefined).map((value) => JSON.stringify(value))).size > 1)
}

const prefixed = (prefix: string, group: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(group).map(([name, value]) => [`${prefix}.${name}`, value]))
