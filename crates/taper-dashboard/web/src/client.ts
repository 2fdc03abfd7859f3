import type { components, paths } from './schema'
import type { StreamEvent } from './types'

/** A refusal of the server, in the words of its error body. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    /** Which part of the request it is about, as a dotted path. */
    readonly param: string | null = null,
  ) {
    super(message)
  }
}

/** What went wrong, as a sentence. */
export const reason = (error: unknown) => (error instanceof Error ? error.message : String(error))

type Method = 'get' | 'post' | 'patch' | 'delete'
/** The paths of the description that have a method. */
type PathWith<M extends Method> = { [P in keyof paths]: paths[P] extends Record<M, object> ? P : never }[keyof paths]

/** Parameters of a path; a list becomes several segments of it. */
type PathOption<O> = O extends { parameters: { path: infer T } } ? { path: { [K in keyof T]: T[K] | readonly T[K][] } } : unknown
type QueryOption<O> = O extends { parameters: { query?: never } }
  ? unknown
  : O extends { parameters: { query?: infer T } }
    ? { query?: T }
    : unknown
type BodyOption<O> = O extends { requestBody?: never }
  ? unknown
  : O extends { requestBody?: { content: { 'application/json': infer T } } }
    ? { body: T }
    : { body: FormData }
type Options<O> = PathOption<O> & QueryOption<O> & BodyOption<O>
/** Options may be left out where none is required. */
type Arguments<O> = object extends Options<O> ? [options?: Options<O>] : [options: Options<O>]

/** What an operation answers when it has gone well; an answer without content is `null`. */
type Answer<O> = O extends { responses: { 200: { content: { 'application/json': infer T } } } } ? T : null

interface AnyOptions {
  path?: Record<string, string | readonly string[]>
  query?: Record<string, string | number | boolean | null | undefined>
  body?: unknown
}

let refused = () => {}
/** Has a function called whenever the server asks for a key. */
export const onRefused = (call: () => void) => (refused = call)

/** Calls an operation of the description: `request('get', '/v1/fine_tuning/jobs/{id}', { path: { id } })`. */
export async function request<M extends Method, P extends PathWith<M>>(
  method: M,
  path: P,
  ...[options]: Arguments<paths[P][M]>
): Promise<Answer<paths[P][M]>> {
  const { body, ...place }: AnyOptions = options ?? {}
  const target = fill(path, place)
  const response = await fetch(target, { method: method.toUpperCase(), ...content(body) })
  const text = await response.text()
  if (response.ok) return described(text === '' ? 'null' : text)
  if (response.status === 401) refused()
  throw refusal(response.status, target, text)
}

/** The address of what can be fetched or followed by a link. */
export const address = <P extends PathWith<'get'>>(path: P, ...[options]: Arguments<paths[P]['get']>): string => fill(path, options ?? {})

/** An event of a stream. */
export const streamed = (text: string): StreamEvent => described(text)

/** The one place where JSON is taken for what the description says that it is; the server's tests hold it to that. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters
const described = <T>(text: string) => JSON.parse(text) as T

function fill(template: string, { path = {}, query = {} }: AnyOptions): string {
  const filled = template.replace(/\{(\w+)\}/g, (_, name: string) => [path[name] ?? []].flat().map(encodeURIComponent).join('/'))
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) if (value !== undefined && value !== null) search.set(name, String(value))
  return search.size === 0 ? filled : `${filled}?${search.toString()}`
}

function content(body: unknown): RequestInit {
  const accept = 'application/json'
  if (body === undefined || body instanceof FormData) return { headers: { accept }, body }
  return { headers: { accept, 'content-type': 'application/json' }, body: JSON.stringify(body) }
}

function refusal(status: number, target: string, text: string): ApiError {
  try {
    const { error } = described<components['schemas']['ErrorBody']>(text)
    return new ApiError(status, error.message, error.param)
  } catch {
    // What stands between page and server may answer with something else.
    return new ApiError(status, `the server answered ${status} to ${target}`)
  }
}
