export type Route =
  | { view: 'jobs' }
  | { view: 'job'; id: string }
  | { view: 'experiments' }
  | { view: 'new experiment' }
  | { view: 'experiment'; id: string }
  | { view: 'compare'; jobs: string[] }
  | { view: 'unknown' }

/** The page's own paths; the rest of them is the server's. */
const own = /^\/(jobs\/|experiments(\/|$)|compare$|$)/

class Router {
  #path = $state(location.pathname)
  #query = $state(location.search)

  constructor() {
    window.addEventListener('popstate', () => this.#follow())
  }

  get route(): Route {
    const [, first, second] = this.#path.split('/')
    switch (first) {
      case '':
        return { view: 'jobs' }
      case 'jobs':
        return second ? { view: 'job', id: decode(second) } : { view: 'unknown' }
      case 'experiments':
        if (!second) return { view: 'experiments' }
        return second === 'new' ? { view: 'new experiment' } : { view: 'experiment', id: decode(second) }
      case 'compare':
        return { view: 'compare', jobs: (new URLSearchParams(this.#query).get('jobs') ?? '').split(',').filter(Boolean) }
      default:
        return { view: 'unknown' }
    }
  }

  /** Takes over a plain click on a link to one of the page's own views. */
  click(event: MouseEvent): void {
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey
    const link = event.target instanceof Element ? event.target.closest('a') : null
    if (!plain || event.defaultPrevented || link === null) return
    if (link.origin !== location.origin || !own.test(link.pathname) || link.hasAttribute('download')) return
    event.preventDefault()
    this.go(link.pathname + link.search)
  }

  /** Shows another of the page's own views. */
  go(path: string): void {
    history.pushState(null, '', path)
    this.#follow()
    window.scrollTo(0, 0)
    // Keyboard and screen reader go on in the new view.
    document.querySelector('main')?.focus({ preventScroll: true })
  }

  #follow(): void {
    this.#path = location.pathname
    this.#query = location.search
  }
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

export const jobLink = (id: string) => `/jobs/${encodeURIComponent(id)}`
export const experimentsLink = '/experiments'
export const newExperimentLink = '/experiments/new'
export const experimentLink = (id: string) => `/experiments/${encodeURIComponent(id)}`
export const compareLink = (jobs: readonly string[]) => `/compare?jobs=${jobs.map(encodeURIComponent).join(',')}`
export const router = new Router()
