import type { Artifact, Checkpoint, Job, JobEvent, List, MetricsAnswer, Session } from './types'

/** A refusal of the server, in the words of its error body. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message)
  }
}

/** What went wrong, as a sentence. */
export const reason = (error: unknown) => (error instanceof Error ? error.message : String(error))

const jobs = '/v1/fine_tuning/jobs'

export const jobPath = (id: string) => `${jobs}/${encodeURIComponent(id)}`
export const artifactPath = (id: string, path: string) =>
  `${jobPath(id)}/artifacts/${path.split('/').map(encodeURIComponent).join('/')}`
export const archivePath = (id: string) => `${jobPath(id)}/adapter.zip`
export const streamPath = (job: string | null) =>
  '/v1/events/stream' + (job === null ? '' : `?jobs=${encodeURIComponent(job)}`)

let refused = () => {}
/** Has a function called whenever the server asks for a key. */
export const onRefused = (call: () => void) => (refused = call)

async function request<T>(path: string, init?: RequestInit): Promise<T> {
  const answer = await fetch(path, { headers: { accept: 'application/json' }, ...init })
  const body: unknown = await answer.json().catch(() => null)
  if (answer.ok) return body as T
  if (answer.status === 401) refused()
  const error = (body as { error?: { message?: string } } | null)?.error
  throw new ApiError(answer.status, error?.message ?? `the server answered ${answer.status} to ${path}`)
}

function page(path: string, limit: number, after?: string): string {
  const query = new URLSearchParams({ limit: String(limit) })
  if (after !== undefined) query.set('after', after)
  return `${path}?${query}`
}

const session = '/v1/session'

export const getSession = () => request<Session>(session)
export const beginSession = (key: string) =>
  request<Session>(session, {
    method: 'POST',
    headers: { accept: 'application/json', 'content-type': 'application/json' },
    body: JSON.stringify({ key }),
  })
export const endSession = () => request<unknown>(session, { method: 'DELETE' })

export const listJobs = (limit: number, after?: string) => request<List<Job>>(page(jobs, limit, after))
export const getJob = (id: string) => request<Job>(jobPath(id))
const act = (verb: string) => (id: string) => request<Job>(`${jobPath(id)}/${verb}`, { method: 'POST' })
export const cancelJob = act('cancel')
export const pauseJob = act('pause')
export const resumeJob = act('resume')
export const retryJob = act('retry')
export const deleteJob = (id: string) => request<unknown>(jobPath(id), { method: 'DELETE' })
export const setPriority = (id: string, priority: number) =>
  request<Job>(jobPath(id), {
    method: 'PATCH',
    headers: { accept: 'application/json', 'content-type': 'application/json' },
    body: JSON.stringify({ priority }),
  })
export const listEvents = (id: string, limit: number, after?: string) =>
  request<List<JobEvent>>(page(`${jobPath(id)}/events`, limit, after))
export const listCheckpoints = (id: string) => request<List<Checkpoint>>(page(`${jobPath(id)}/checkpoints`, 100))
export const listArtifacts = (id: string) => request<List<Artifact>>(`${jobPath(id)}/artifacts`)
export const getMetrics = (id: string, names: readonly string[], points: number) =>
  request<MetricsAnswer>(`${jobPath(id)}/metrics?names=${names.join(',')}&points=${points}`)
