import type { components } from './schema'

type Schemas = components['schemas']

export type State = Schemas['JobState']
/** Who asks. */
export type Session = Schemas['SessionObject']
export type Job = Schemas['FineTuningJob']
export type JobEvent = Schemas['FineTuningEvent']
export type Checkpoint = Schemas['FineTuningCheckpoint']
export type Artifact = Schemas['ArtifactObject']
export type Buckets = Schemas['CurveBuckets']
export type MetricsAnswer = Pick<Schemas['JobMetrics'], 'data'>
/** An event as the stream of all jobs sends it. */
export type StreamEvent = Schemas['StreamedEvent']

export interface List<T> {
  data: T[]
  has_more: boolean
}

export const isTerminal = (state: State) => state === 'succeeded' || state === 'failed' || state === 'cancelled'
