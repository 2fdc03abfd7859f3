import { beginSession, endSession, getSession, onRefused } from './api'
import { retryUntilLoaded } from './live/retry'
import type { Session as Who } from './types'

/** Who looks at the page, and whether the server wants a key first. */
class Session {
  /** Undefined until the server has said. */
  who: Who | undefined = $state.raw()
  isOut = $state(false)

  constructor() {
    onRefused(() => this.#lost())
    void retryUntilLoaded(async () => (this.who = await getSession()))
  }

  /** The server asks for keys, and this page has shown one. */
  get isSignedIn(): boolean {
    return this.who?.expires_at != null
  }

  /** Not before the server has said: nothing is offered that may be refused. */
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

  #lost(): void {
    this.who = undefined
    this.isOut = true
  }
}

export const session = new Session()
