import type { components } from './schema'

type Schemas = components['schemas']

export type State = Schemas['JobState']
/** Of a configuration's runs together; weak ones may be stopped before their end. */
export type RunState = Schemas['RowStatus']
/** Who asks. */
export type Session = Schemas['SessionObject']
export type Job = Schemas['FineTuningJob']
export type JobEvent = Schemas['FineTuningEvent']
export type Checkpoint = Schemas['FineTuningCheckpoint']
export type Artifact = Schemas['ArtifactObject']
export type Buckets = Schemas['CurveBuckets']
export type Metrics = Schemas['JobMetrics']
/** An event as the stream of all jobs sends it. */
export type StreamEvent = Schemas['StreamedEvent']
export type Experiment = Schemas['ExperimentObject']
export type ExperimentBody = Schemas['CreateExperiment']
/** A configuration of an experiment and what its runs have come to. */
export type ComparisonRow = Schemas['ComparisonRow']
export type Objective = Schemas['Objective']
/** Methods, settings and tasks: what forms are made of. */
export type Settings = Schemas['FineTuningSettings']
export type MethodSettings = Schemas['MethodSettings']
/** A setting of a method or of training, with its default and range. */
export type Setting = Schemas['Setting']
export type BaseModel = Schemas['ModelObject']
export type DataFile = Schemas['FileObject']

export interface List<T> {
  data: T[]
  has_more: boolean
}

export const isTerminal = (state: State) => state === 'succeeded' || state === 'failed' || state === 'cancelled'
