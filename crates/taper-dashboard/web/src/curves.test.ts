import { expect, test } from 'vitest'
import { align, Curve, Curves } from './curves'

const event = (step: number, train_loss: number | null) => ({ step, train_loss, total_steps: 100 })

test('a resumed run leaves no zig-zag: what lay beyond its step is dropped', () => {
  const curves = new Curves()
  for (const step of [10, 20, 30, 40]) curves.add(event(step, step))
  curves.rewind(20)
  for (const step of [30, 40]) curves.add(event(step, step + 0.5))
  expect(curves.of('train_loss').steps).toEqual([10, 20, 30, 40])
  expect(curves.of('train_loss').values).toEqual([10, 20, 30.5, 40.5])
  curves.rewind(0)
  expect(curves.lastStep).toBe(0)
})

test('events that repeat the history change nothing', () => {
  const buckets = { from: [10, 20], to: [10, 20], min: [1, 2], max: [1, 2], last: [1, 2] }
  const curves = new Curves({ data: { train_loss: buckets } })
  curves.add(event(20, 2))
  curves.add(event(10, 1))
  curves.add(event(30, null))
  expect(curves.of('train_loss').steps).toEqual([10, 20, 30])
  expect(curves.of('train_loss').values).toEqual([1, 2, null])
})

test('a bucket of many steps keeps its spike', () => {
  const buckets = { from: [0], to: [90], min: [0.1], max: [9], last: [0.5] }
  const curve = new Curves({ data: { train_loss: buckets } }).of('train_loss')
  expect(curve.steps).toEqual([0, 45, 90])
  expect(curve.values).toEqual([0.1, 9, 0.5])
})

test('figures of different steps share one axis; a hole is not a value that is not finite', () => {
  const train = new Curve()
  train.set(10, 1)
  train.set(20, null)
  const valid = new Curve()
  valid.set(15, 2)
  expect(align([train, valid])).toEqual([
    [10, 15, 20],
    [1, undefined, null],
    [undefined, 2, undefined],
  ])
})
