import { expect, test } from 'vitest'
import type { ComparisonRow } from '../types'
import { differences } from './differences'

const row = (tuning: object, training: Record<string, unknown>) => ({ tuning: tuning as ComparisonRow['tuning'], training })

test('only what differs is told, and a setting that a method does not have is no value', () => {
  const rows = [
    row({ type: 'lora', r: 8, target_modules: ['query'] }, { learning_rate: 1e-3, seed: 1 }),
    row({ type: 'lora', r: 4, target_modules: ['query'] }, { learning_rate: 1e-3, seed: 1 }),
    row({ type: 'full' }, { learning_rate: 5e-5, seed: 1 }),
  ]
  expect(differences(rows)).toEqual([
    { path: 'tuning.type', values: ['lora', 'lora', 'full'] },
    { path: 'tuning.r', values: [8, 4, undefined] },
    { path: 'training.learning_rate', values: [1e-3, 1e-3, 5e-5] },
  ])
  expect(differences(rows.slice(0, 1))).toEqual([])
})
