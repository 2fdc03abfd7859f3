import { beginSession, endSession, getSession, onRefused } from './api'
import type { Session as Who } from './types'

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

  get mayChange(): boolean {
    return this.who === undefined || this.who.role !== 'read'
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
    // A refusal leads to the form, and a server that is away is told by what else is loaded.
    this.who = await getSession().catch(() => this.who)
  }

  #lost(): void {
    this.who = undefined
    this.isOut = true
  }
}

export const session = new Session()
