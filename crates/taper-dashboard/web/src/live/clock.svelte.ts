import { createSubscriber } from 'svelte/reactivity'

/** The time in Unix seconds; whoever shows it is updated every second. */
class Clock {
  #subscribe = createSubscriber((update) => {
    const timer = setInterval(update, 1000)
    return () => clearInterval(timer)
  })

  get now(): number {
    this.#subscribe()
    return Date.now() / 1000
  }
}

export const clock = new Clock()
