import { address, request } from './client'
import type { Experiment, ExperimentBody, MethodSettings } from './types'

export { ApiError, onRefused, reason } from './client'

const job = '/v1/fine_tuning/jobs/{id}'
const experiment = '/v1/experiments/{id}'
const by = (id: string) => ({ path: { id } })

export const artifactPath = (id: string, path: string) => address(`${job}/artifacts/{path}`, { path: { id, path: path.split('/') } })
/** The zip of what a job has made. */
export const archivePath = (id: string, result: MethodSettings['result']) => address(`${job}/${result}.zip`, by(id))
export const allStreamPath = address('/v1/events/stream')
export const jobStreamPath = (ids: readonly string[]) => address('/v1/events/stream', { query: { jobs: ids.join() } })
export const experimentStreamPath = (id: string) => address(`${experiment}/events/stream`, by(id))
export const tablePath = (id: string, format: 'csv' | 'markdown') => address(`${experiment}/table`, { ...by(id), query: { format } })

export const getSession = () => request('get', '/v1/session')
export const beginSession = (key: string) => request('post', '/v1/session', { body: { key } })
export const endSession = () => request('delete', '/v1/session')

export const listJobs = (limit: number, after?: string) => request('get', '/v1/fine_tuning/jobs', { query: { limit, after } })
export const getJob = (id: string) => request('get', job, by(id))
export const cancelJob = (id: string) => request('post', `${job}/cancel`, by(id))
export const pauseJob = (id: string) => request('post', `${job}/pause`, by(id))
export const resumeJob = (id: string) => request('post', `${job}/resume`, by(id))
export const retryJob = (id: string) => request('post', `${job}/retry`, by(id))
export const deleteJob = (id: string) => request('delete', job, by(id))
export const setPriority = (id: string, priority: number) => request('patch', job, { ...by(id), body: { priority } })
export const listEvents = (id: string, limit: number, after?: string) =>
  request('get', `${job}/events`, { ...by(id), query: { limit, after } })
export const listCheckpoints = (id: string) => request('get', `${job}/checkpoints`, { ...by(id), query: { limit: 100 } })
export const listArtifacts = (id: string) => request('get', `${job}/artifacts`, by(id))
export const getMetrics = (id: string, names: readonly string[], points: number) =>
  request('get', `${job}/metrics`, { ...by(id), query: { names: names.join(), points } })

export const listExperiments = (limit: number, after?: string) => request('get', '/v1/experiments', { query: { limit, after } })
export const getExperiment = (id: string) => request('get', experiment, by(id))
export async function createExperiment(body: ExperimentBody): Promise<Experiment> {
  const answer = await request('post', '/v1/experiments', { body })
  if ('id' in answer) return answer
  throw new Error('the server answered with the plan of a dry run')
}
export const cancelExperiment = (id: string) => request('post', `${experiment}/cancel`, by(id))
export const pauseExperiment = (id: string) => request('post', `${experiment}/pause`, by(id))
export const resumeExperiment = (id: string) => request('post', `${experiment}/resume`, by(id))
export const deleteExperiment = (id: string) => request('delete', experiment, by(id))

export const getSettings = () => request('get', '/v1/fine_tuning/settings')
export const listModels = () => request('get', '/v1/models')
export const listFiles = (limit: number) => request('get', '/v1/files', { query: { purpose: 'fine-tune', limit } })

/** Uploads a file of rows to train on or to measure with. */
export function uploadFile(file: File) {
  const body = new FormData()
  body.set('purpose', 'fine-tune')
  body.set('file', file)
  return request('post', '/v1/files', { body })
}
