import type {
  Artifact,
  BaseModel,
  Checkpoint,
  DataFile,
  Experiment,
  ExperimentBody,
  Job,
  JobEvent,
  List,
  MetricsAnswer,
  Session,
} from './types'

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

const jobs = '/v1/fine_tuning/jobs'
const experiments = '/v1/experiments'

export const jobPath = (id: string) => `${jobs}/${encodeURIComponent(id)}`
export const artifactPath = (id: string, path: string) => `${jobPath(id)}/artifacts/${path.split('/').map(encodeURIComponent).join('/')}`
export const archivePath = (id: string) => `${jobPath(id)}/adapter.zip`
export const allStreamPath = '/v1/events/stream'
export const jobStreamPath = (ids: readonly string[]) => `${allStreamPath}?jobs=${ids.map(encodeURIComponent).join(',')}`
export const experimentPath = (id: string) => `${experiments}/${encodeURIComponent(id)}`
export const experimentStreamPath = (id: string) => `${experimentPath(id)}/events/stream`
export const tablePath = (id: string, format: 'csv' | 'markdown') => `${experimentPath(id)}/table?format=${format}`

let refused = () => {}
/** Has a function called whenever the server asks for a key. */
export const onRefused = (call: () => void) => (refused = call)

async function request<T>(path: string, init?: RequestInit): Promise<T> {
  const answer = await fetch(path, { headers: { accept: 'application/json' }, ...init })
  const body: unknown = await answer.json().catch(() => null)
  if (answer.ok) return body as T
  if (answer.status === 401) refused()
  const error = (body as { error?: { message?: string; param?: string | null } } | null)?.error
  throw new ApiError(answer.status, error?.message ?? `the server answered ${answer.status} to ${path}`, error?.param)
}

function page(path: string, limit: number, after?: string): string {
  const query = new URLSearchParams({ limit: String(limit) })
  if (after !== undefined) query.set('after', after)
  return `${path}?${query}`
}

const withJson = (method: string, body: unknown): RequestInit => ({
  method,
  headers: { accept: 'application/json', 'content-type': 'application/json' },
  body: JSON.stringify(body),
})

const session = '/v1/session'

export const getSession = () => request<Session>(session)
export const beginSession = (key: string) => request<Session>(session, withJson('POST', { key }))
export const endSession = () => request<unknown>(session, { method: 'DELETE' })

export const listJobs = (limit: number, after?: string) => request<List<Job>>(page(jobs, limit, after))
export const getJob = (id: string) => request<Job>(jobPath(id))
const act = (verb: string) => (id: string) => request<Job>(`${jobPath(id)}/${verb}`, { method: 'POST' })
export const cancelJob = act('cancel')
export const pauseJob = act('pause')
export const resumeJob = act('resume')
export const retryJob = act('retry')
export const deleteJob = (id: string) => request<unknown>(jobPath(id), { method: 'DELETE' })
export const setPriority = (id: string, priority: number) => request<Job>(jobPath(id), withJson('PATCH', { priority }))
export const listEvents = (id: string, limit: number, after?: string) =>
  request<List<JobEvent>>(page(`${jobPath(id)}/events`, limit, after))
export const listCheckpoints = (id: string) => request<List<Checkpoint>>(page(`${jobPath(id)}/checkpoints`, 100))
export const listArtifacts = (id: string) => request<List<Artifact>>(`${jobPath(id)}/artifacts`)
export const getMetrics = (id: string, names: readonly string[], points: number) =>
  request<MetricsAnswer>(`${jobPath(id)}/metrics?names=${names.join(',')}&points=${points}`)

export const listExperiments = (limit: number, after?: string) => request<List<Experiment>>(page(experiments, limit, after))
export const getExperiment = (id: string) => request<Experiment>(experimentPath(id))
export const createExperiment = (body: ExperimentBody) => request<Experiment>(experiments, withJson('POST', body))
const actOnAll = (verb: string) => (id: string) => request<Experiment>(`${experimentPath(id)}/${verb}`, { method: 'POST' })
export const cancelExperiment = actOnAll('cancel')
export const pauseExperiment = actOnAll('pause')
export const resumeExperiment = actOnAll('resume')
export const deleteExperiment = (id: string) => request<unknown>(experimentPath(id), { method: 'DELETE' })

export const listModels = () => request<List<BaseModel>>('/v1/models')
export const listFiles = (limit: number) => request<List<DataFile>>(`/v1/files?purpose=fine-tune&limit=${limit}`)

/** Uploads a file of rows to train on or to measure with. */
export function uploadFile(file: File): Promise<DataFile> {
  const form = new FormData()
  form.set('purpose', 'fine-tune')
  form.set('file', file)
  return request<DataFile>('/v1/files', { method: 'POST', body: form })
}
