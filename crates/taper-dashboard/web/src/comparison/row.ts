import { title } from '../facts'
import type { ComparisonRow, Job, Objective } from '../types'

/** Why figures of jobs may not be compared with one another. */
export function comparabilityWarnings(jobs: readonly Job[]): { code: string; message: string }[] {
  const differ = (value: (job: Job) => unknown) => new Set(jobs.map((job) => JSON.stringify(value(job)))).size > 1
  const measured = differ(
    ({ validation_file: file, training_file: rows, training: { eval_split: split, seed } }) => file ?? [rows, split, split && seed],
  )
  const warnings = []
  if (measured) {
    warnings.push({
      code: 'validation_differs',
      message: 'These jobs were measured on different rows, so a better figure need not mean a better model.',
    })
  }
  if (differ(({ training_file: rows }) => rows))
    warnings.push({ code: 'training_differs', message: 'These jobs were trained on different files.' })
  return warnings
}

/** The rows of a comparison of single jobs, and which of them is best so far. */
export function rowsOf(
  jobs: readonly Job[],
  objective: Objective,
  methodTitle: (name: string) => string,
): { rows: ComparisonRow[]; best: number | null } {
  const names = jobs.map((job) => `${title(job)} · ${methodTitle(job.tuning.type)}`)
  const rows = jobs.map((job, i) =>
    row(job, i, names.indexOf(names[i]!) === names.lastIndexOf(names[i]!) ? names[i]! : `${names[i]} · ${job.id}`, objective),
  )
  const best = bestOf(rows, objective)
  const peak = rows.find(({ configuration }) => configuration === best)?.metric ?? null
  for (const row of rows) if (row.metric !== null && peak !== null) row.difference = row.metric - peak
  return { rows, best }
}

function row(job: Job, configuration: number, label: string, { metric }: Objective): ComparisonRow {
  const figure = (name: string) => job.metrics[name] ?? null
  return {
    configuration,
    label,
    tuning: job.tuning,
    training: job.training,
    jobs: [job.id],
    status: job.status,
    error: job.error,
    note: null,
    metric: figure(metric),
    metric_std: null,
    seeds: [job.seed],
    metric_seeds: [job.seed],
    difference: null,
    difference_ci95: null,
    trainable_parameters: figure('trainable_parameters') ?? job.plan?.trainable_parameters ?? null,
    train_seconds: figure('train_seconds'),
    tokens_per_second: figure('tokens_per_second'),
    peak_memory_bytes: figure('peak_memory_bytes'),
    adapter_bytes: figure('adapter_bytes'),
    steps: figure('step'),
  }
}

function bestOf(rows: readonly ComparisonRow[], objective: Objective): number | null {
  const leader = ranked(rows, objective, null)[0]
  return leader === undefined || leader.metric === null ? null : leader.configuration
}

/**
 * The rows from the best to the worst; those without a figure last, in their order. `best` stands first whatever its figure: a mean over
 * fewer seeds than its own may be better.
 */
export function ranked(rows: readonly ComparisonRow[], { direction }: Objective, best: number | null): ComparisonRow[] {
  const sign = direction === 'max' ? -1 : 1
  const place = ({ configuration, metric }: ComparisonRow) =>
    configuration === best ? -Infinity : metric === null ? Infinity : sign * metric
  return rows.toSorted((a, b) => compare(place(a), place(b)))
}

const compare = (a: number, b: number) => (a === b ? 0 : a < b ? -1 : 1)
