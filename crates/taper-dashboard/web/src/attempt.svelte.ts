import { reason } from './api'

/** Something that a person has asked for: whether it is under way, and why it has failed. */
export class Attempt {
  busy = $state(false)
  error: unknown = $state.raw()

  /** The reason as a sentence, empty while there is none. */
  get problem(): string {
    return this.error === undefined ? '' : reason(this.error)
  }

  async run(act: () => Promise<void>): Promise<void> {
    this.busy = true
    this.error = undefined
    try {
      await act()
    } catch (error) {
      this.error = error
    } finally {
      this.busy = false
    }
  }
}
