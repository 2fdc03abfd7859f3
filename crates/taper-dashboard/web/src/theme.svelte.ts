import { MediaQuery } from 'svelte/reactivity'

export const themes = ['system', 'light', 'dark'] as const
export type ThemeChoice = (typeof themes)[number]

const key = 'taper.theme'

class Theme {
  choice = $state<ThemeChoice>(stored())
  #systemDark = new MediaQuery('prefers-color-scheme: dark')

  constructor() {
    this.#show()
  }

  get dark(): boolean {
    return this.choice === 'dark' || (this.choice === 'system' && this.#systemDark.current)
  }

  choose(choice: ThemeChoice): void {
    this.choice = choice
    localStorage.setItem(key, choice)
    this.#show()
  }

  #show(): void {
    document.documentElement.dataset.theme = this.choice
  }
}

function stored(): ThemeChoice {
  const word = localStorage.getItem(key)
  return themes.find((theme) => theme === word) ?? 'system'
}

export const theme = new Theme()
