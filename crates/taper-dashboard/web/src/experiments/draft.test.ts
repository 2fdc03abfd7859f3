import { expect, test } from 'vitest'
import type { Setting, Settings } from '../types'
import { Draft, parsed } from './draft.svelte'

const setting = (name: string, type: Setting['type'], changes: Partial<Setting> = {}): Setting => ({
  name,
  type,
  default: null,
  minimum: null,
  maximum: null,
  exclusive_minimum: null,
  exclusive_maximum: null,
  values: null,
  description: `What ${name} does.`,
  common: true,
  ...changes,
})

/** Two methods, of which no name is one of the server's. */
const settings: Settings = {
  object: 'fine_tuning.settings',
  methods: [
    {
      name: 'narrow',
      title: 'Narrow tuning',
      description: 'Few weights are trained.',
      result: 'adapter',
      default_learning_rate: { SEQ_CLS: 1e-3 },
      fields: [
        setting('rank', 'integer', { default: 8, minimum: 1, maximum: 10 }),
        setting('dropout', 'number', { default: 0.6, minimum: 0, exclusive_maximum: 1 }),
        setting('names', 'array'),
        setting('rare', 'boolean', { common: false }),
      ],
    },
    {
      name: 'wide',
      title: 'Wide tuning',
      description: 'All are.',
      result: 'model',
      default_learning_rate: { SEQ_CLS: 5e-5 },
      fields: [setting('dropout', 'number', { default: 0.6, minimum: 0, exclusive_maximum: 1 })],
    },
  ],
  training: [
    setting('learning_rate', 'number', { exclusive_minimum: 0 }),
    setting('weight_decay', 'number', { default: 0, minimum: 0, maximum: 1 }),
    setting('shape', 'string', { values: ['linear', 'cosine', 'constant', 'other'] }),
    setting('packing', 'boolean', { default: false }),
    setting('seed', 'integer', { default: 42 }),
  ],
  tasks: [],
}

const draft = (changes: Partial<Draft>) => Object.assign(new Draft(settings), { model: 'bert', trainingFile: 'file-a' }, changes)

test('a file and a model are enough: all methods once, measured on rows that are held out', () => {
  const plain = draft({})
  expect(plain.body).toEqual({ model: 'bert', training_file: 'file-a', training: { eval_split: 0.2 }, methods: 'all' })
  expect(plain.runs).toBe(2)
  expect(plain.titles).toEqual(['Narrow tuning', 'Wide tuning'])
})

test('a setting of one method multiplies only the runs of that method', () => {
  const grid = [
    { path: 'tuning.rank', values: '4, 8,16' },
    { path: 'tuning.dropout', values: '0.1' },
    { path: 'training.learning_rate', values: '1e-4, 3e-4' },
    { path: 'training.weight_decay', values: '' },
  ]
  const varied = draft({ methods: ['wide', 'narrow'], grid, seeds: 3, stopEarly: true, maxSteps: 400, validationFile: 'file-b' })
  expect(varied.runs).toBe(3 * (2 + 6))
  expect(varied.body).toEqual({
    model: 'bert',
    training_file: 'file-a',
    validation_file: 'file-b',
    methods: 'all',
    grid: { 'tuning.rank': [4, 8, 16], 'tuning.dropout': [0.1], 'training.learning_rate': [1e-4, 3e-4] },
    seeds: [1, 2, 3],
    strategy: { type: 'asha', reduction: 3 },
    budget: { max_steps: 400 },
  })
  expect(draft({ methods: ['wide'] }).body.methods).toEqual([{ type: 'wide' }])
})

test('common settings with single values can be varied, each with an example of what is allowed', () => {
  const offered = draft({}).variables.map(({ path, methods, example }) => [path, methods.join(), example])
  expect(offered).toEqual([
    ['training.learning_rate', 'narrow,wide', '5e-4, 0.001, 0.002'],
    ['training.weight_decay', 'narrow,wide', 'from 0 to 1'],
    ['training.shape', 'narrow,wide', 'linear, cosine, constant'],
    ['training.packing', 'narrow,wide', 'true, false'],
    ['tuning.rank', 'narrow', '4, 8'],
    ['tuning.dropout', 'narrow,wide', '0.3, 0.6'],
  ])
})

test('values are of the type of their setting, or stay as they were typed', () => {
  expect(parsed('1e-4, 3; x', 'number')).toEqual([1e-4, 3, 'x'])
  expect(parsed('true, false, no', 'boolean')).toEqual([true, false, 'no'])
  expect(parsed('10, linear', 'string')).toEqual(['10', 'linear'])
})
