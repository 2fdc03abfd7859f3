import type { components } from './schema'

type Schemas = components['schemas']

export interface Objective {
  metric: string
  direction: 'max' | 'min'
}

export interface ExperimentWarning {
  code: string
  message: string
  configuration: number | null
  job: string | null
}

export interface ComparisonRow {
  configuration: number
  label: string
  tuning: Schemas['Tuning']
  training: Record<string, unknown>
  jobs: string[]
  status: Schemas['JobState'] | 'stopped_early'
  error: { message: string } | null
  metric: number | null
  metric_std: number | null
  seeds: number[]
  difference: number | null
  difference_ci95: [number, number] | null
  trainable_parameters: number | null
  train_seconds: number | null
  tokens_per_second: number | null
  peak_memory_bytes: number | null
  adapter_bytes: number | null
  steps: number | null
}

export interface Experiment {
  id: string
  created_at: number
  started_at: number | null
  finished_at: number | null
  estimated_finish: number | null
  status: Schemas['JobState']
  model: string
  training_file: string
  validation_file: string | null
  user_provided_suffix: string | null
  objective: Objective
  strategy: { type: 'all' } | { type: 'asha'; reduction: number }
  budget: Record<string, number> | null
  seeds: number[]
  jobs: string[]
  progress: { runs: number; ended: number; steps: number; total_steps: number }
  table: ComparisonRow[]
  best: number | null
  recommendation: string | null
  warnings: ExperimentWarning[]
}

export interface ExperimentBody {
  model: string
  training_file: string
  validation_file?: string
  suffix?: string
  training?: Record<string, unknown>
  methods: 'all' | { type: string }[]
  grid?: Record<string, unknown[]>
  seeds?: number[]
  strategy?: { type: 'asha'; reduction: number }
  budget?: { max_steps: number }
}
