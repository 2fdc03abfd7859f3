import { expect, test } from 'vitest'
import { placeLabels, scaleOf, withRoom } from './scatter'

const frame = { left: 0, right: 400, top: 0, bottom: 300 }

test('labels of points that are close to each other do not cover one another', () => {
  const points = [
    { x: 100, y: 100, spread: 0, width: 80 },
    { x: 104, y: 103, spread: 0, width: 80 },
    { x: 390, y: 100, spread: 5, width: 80 },
  ]
  const labels = placeLabels(points, frame)
  expect(labels[0]).toEqual({ x: 111, y: 100, anchor: 'start' })
  expect(labels[1]!.anchor === 'start' && Math.abs(labels[1]!.y - 100) < 15).toBe(false)
  expect(labels[2]!.anchor).toBe('end')
})

test('costs that are far apart get a logarithmic scale, and others one that does not fall below zero', () => {
  const far = scaleOf([2e4, 2e7], 0, 100, true)
  expect(far.log).toBe(true)
  expect(far.place(Math.sqrt(2e4 * 2e7))).toBeCloseTo(50)
  const near = scaleOf([1, 40 / 3], 0, 100, true)
  expect(near.log).toBe(false)
  expect(near.place(0)).toBeCloseTo(0)
})

test('one value alone stands in the middle', () => {
  expect(scaleOf([0.8], 0, 100, false).place(0.8)).toBeCloseTo(50)
})

test('ticks whose texts would touch are left out evenly', () => {
  const ticks = [0, 50, 100, 150, 200]
  const place = (tick: number) => tick
  expect(withRoom(ticks, place, () => 30)).toEqual(ticks)
  expect(withRoom(ticks, place, () => 48)).toEqual([0, 100, 200])
  expect(withRoom(ticks, place, () => 500)).toEqual([0])
  expect(withRoom([], place, () => 48)).toEqual([])
})
