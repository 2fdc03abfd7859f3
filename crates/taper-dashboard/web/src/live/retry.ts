import { ApiError } from '../api'

const pause = 2000

/** Loads what the whole page needs, and tries again until it is there. */
export async function retryUntilLoaded(load: () => Promise<unknown>): Promise<void> {
  try {
    await load()
  } catch (error) {
    // A refusal leads to the form, and a server that is away shows by what else is loaded.
    if (!(error instanceof ApiError && error.status === 401)) setTimeout(() => void retryUntilLoaded(load), pause)
  }
}
