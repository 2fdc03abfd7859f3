import { ApiError, beginSession, endSession, getSession, onRefused } from './api'
import type { Session as Who } from './types'

const retryPause = 2000

/** Who looks at the page, and whether the server wants a key first. */
class Session {
  /** Undefined until the server has told. */
  who: Who | undefined = $state.raw()
  isOut = $state(false)

  constructor() {
    onRefused(() => this.#lost())
    void this.#load()
  }

  /** The server asks for keys, and this page has shown one. */
  get isSignedIn(): boolean {
    return this.who?.expires_at != null
  }

  /** Not before the server has told: nothing is offered that may be refused. */
  get mayChange(): boolean {
    return this.who !== undefined && this.who.role !== 'read'
  }

  /** What a curl command needs for this server to take it. */
  get curlHeader(): string {
    return this.isSignedIn ? ' -H "Authorization: Bearer $TAPER_KEY"' : ''
  }

  async signIn(key: string): Promise<void> {
    this.who = await beginSession(key)
    this.isOut = false
  }

  async signOut(): Promise<void> {
    await endSession()
    this.#lost()
  }

  async #load(): Promise<void> {
    try {
      this.who = await getSession()
    } catch (error) {
      // A refusal leads to the form, and a server that is away is told by what else is loaded.
      if (!(error instanceof ApiError && error.status === 401)) setTimeout(() => void this.#load(), retryPause)
    }
  }

  #lost(): void {
    this.who = undefined
    this.isOut = true
  }
}

export const session = new Session()
