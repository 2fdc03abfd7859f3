import { count, duration } from '../format'
import { isTerminal, type Experiment } from '../types'

/** What an experiment is called. */
export const title = ({ model, user_provided_suffix: suffix }: Experiment) => (suffix ? `${model} · ${suffix}` : model)

/** What it compares: "4 configurations × 3 seeds, weak runs stopped early". */
export function design({ table, seeds, strategy }: Experiment): string {
  const configurations = `${count(table.length)} ${table.length === 1 ? 'configuration' : 'configurations'}`
  const times = seeds.length > 1 ? ` × ${seeds.length} seeds` : ''
  return configurations + times + (strategy.type === 'asha' ? ', weak runs stopped early' : '')
}

/** Optimizer steps done and planned, of all runs. */
export const steps = ({ progress }: Experiment) => ({ done: progress.steps, total: progress.total_steps })

/** Where it stands: runs, share of the steps, time left or taken. */
export function statusLine(experiment: Experiment, now: number): string[] {
  const { status, progress, started_at: start, finished_at: end, estimated_finish: finish } = experiment
  const parts = [
    `${count(progress.ended)} of ${count(progress.runs)} runs ended`,
    progress.total_steps > 0 && `step ${count(progress.steps)}/${count(progress.total_steps)}`,
    progress.total_steps > 0 && `${Math.floor((100 * progress.steps) / progress.total_steps)} %`,
    !isTerminal(status) && finish !== null && `ETA ${duration(Math.max(1, finish - now))}`,
    isTerminal(status) && start !== null && end !== null && `took ${duration(end - start)}`,
  ]
  return parts.filter((part) => typeof part === 'string')
}
