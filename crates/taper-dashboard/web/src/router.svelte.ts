export type Route = { view: 'jobs' } | { view: 'job'; id: string } | { view: 'unknown' }

class Router {
  #path = $state(location.pathname)

  constructor() {
    window.addEventListener('popstate', () => (this.#path = location.pathname))
  }

  get route(): Route {
    if (this.#path === '/') return { view: 'jobs' }
    const job = /^\/jobs\/([^/]+)$/.exec(this.#path)
    return job ? { view: 'job', id: decode(job[1]!) } : { view: 'unknown' }
  }

  /** Takes over a plain click on a link to one of the page's own views. */
  click(event: MouseEvent): void {
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey
    const link = (event.target as Element).closest('a')
    if (!plain || event.defaultPrevented || link === null) return
    const own = link.origin === location.origin && /^\/(jobs\/|$)/.test(link.pathname)
    if (!own || link.hasAttribute('download')) return
    event.preventDefault()
    this.go(link.pathname)
  }

  /** Shows another of the page's own views. */
  go(path: string): void {
    history.pushState(null, '', path)
    this.#path = path
    window.scrollTo(0, 0)
    // Keyboard and screen reader go on in the new view.
    document.querySelector('main')?.focus({ preventScroll: true })
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
export const router = new Router()
