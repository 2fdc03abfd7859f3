import { expect, test } from 'vitest'
import { Draft } from './draft.svelte'

function draft(changes: Partial<Draft>): Draft {
  return Object.assign(new Draft(), { model: 'bert', trainingFile: 'file-a' }, changes)
}

test('a file and a model are enough: all methods once, measured on rows that are held out', () => {
  const plain = draft({})
  expect(plain.body).toEqual({ model: 'bert', training_file: 'file-a', training: { eval_split: 0.2 }, methods: 'all' })
  expect(plain.runs).toBe(4)
})

test('a setting of one method multiplies only the runs of that method', () => {
  const grid = [
    { path: 'tuning.r', values: '4, 8,16' },
    { path: 'training.learning_rate', values: '1e-4, 3e-4' },
    { path: 'training.weight_decay', values: '' },
  ]
  const varied = draft({ methods: ['full', 'lora'], grid, seeds: 3, stopEarly: true, maxSteps: 400, validationFile: 'file-b' })
  expect(varied.runs).toBe(3 * (2 + 6))
  expect(varied.body).toEqual({
    model: 'bert',
    training_file: 'file-a',
    validation_file: 'file-b',
    methods: [{ type: 'full' }, { type: 'lora' }],
    grid: { 'tuning.r': [4, 8, 16], 'training.learning_rate': [1e-4, 3e-4] },
    seeds: [1, 2, 3],
    strategy: { type: 'asha', reduction: 3 },
    budget: { max_steps: 400 },
  })
})
