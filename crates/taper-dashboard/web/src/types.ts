export type State = 'validating_files' | 'queued' | 'running' | 'paused' | 'succeeded' | 'failed' | 'cancelled'
export type Figures = Record<string, number | null>

export interface List<T> {
  data: T[]
  has_more: boolean
}

export interface Job {
  id: string
  created_at: number
  started_at?: number | null
  finished_at: number | null
  estimated_finish?: number | null
  model: string
  fine_tuned_model: string | null
  user_provided_suffix?: string | null
  status: State
  attempt: number
  queue_position?: number | null
  error: { code: string; message: string; param?: string | null } | null
  training_file: string
  validation_file: string | null
  trained_tokens: number | null
  tuning: { type: string } & Record<string, unknown>
  training: Record<string, unknown>
  plan?: Record<string, unknown> | null
  metadata?: Record<string, string> | null
  metrics: Figures
}

export interface JobEvent {
  id: string
  created_at: number
  level: 'info' | 'warn' | 'error'
  message: string
  type: 'message' | 'metrics'
  data: Record<string, unknown> | null
}

export interface Checkpoint {
  id: string
  created_at: number
  step_number: number
  metrics: Figures
}

export interface Artifact {
  path: string
  bytes: number
  sha256: string
}

export interface Buckets {
  from: number[]
  to: number[]
  min: (number | null)[]
  max: (number | null)[]
  last: (number | null)[]
}

export interface MetricsAnswer {
  data: Record<string, Buckets>
}

/** An event as the multiplexed stream sends it. */
export type StreamEvent = JobEvent & { job: string; seq: number }

export const isTerminal = (state: State) => state === 'succeeded' || state === 'failed' || state === 'cancelled'
