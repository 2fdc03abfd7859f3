import { getSettings } from './api'
import type { MethodSettings, Settings } from './types'

/** What the server knows of methods, settings and tasks: the page's forms and words come from it. */
class ServerSettings {
  /** Undefined until it has been loaded. */
  #known: Settings | undefined = $state.raw()
  #loading: Promise<Settings> | undefined

  /** Loads it once; a call after a failed one tries again. */
  async load(): Promise<Settings> {
    try {
      return (this.#known = await (this.#loading ??= getSettings()))
    } catch (error) {
      this.#loading = undefined
      throw error
    }
  }

  method(name: string): MethodSettings | undefined {
    return this.#known?.methods.find((method) => method.name === name)
  }

  /** What people call a method. */
  methodTitle(name: string): string {
    return this.method(name)?.title ?? name
  }
}

export const settings = new ServerSettings()
