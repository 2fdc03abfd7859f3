import type { ExperimentBody } from '../types'

export const methods = ['full', 'layerwise', 'lora', 'prompt_tuning'] as const
export type MethodName = (typeof methods)[number]

/** A setting that several values can be tried of. */
export interface Setting {
  path: string
  /** The methods that have it; absent = all. */
  methods?: readonly MethodName[]
  example: string
}

export const settings: readonly Setting[] = [
  { path: 'training.learning_rate', example: '1e-4, 3e-4, 1e-3' },
  { path: 'training.per_device_train_batch_size', example: '8, 16, 32' },
  { path: 'training.num_train_epochs', example: '1, 2, 3' },
  { path: 'training.weight_decay', example: '0, 0.01, 0.1' },
  { path: 'training.warmup_ratio', example: '0, 0.1' },
  { path: 'training.lr_scheduler_type', example: 'linear, cosine' },
  { path: 'training.max_length', example: '64, 128, 256' },
  { path: 'tuning.r', methods: ['lora'], example: '4, 8, 16' },
  { path: 'tuning.lora_alpha', methods: ['lora'], example: '8, 16, 32' },
  { path: 'tuning.lora_dropout', methods: ['lora'], example: '0, 0.1' },
  { path: 'tuning.num_virtual_tokens', methods: ['prompt_tuning'], example: '5, 10, 20' },
  { path: 'tuning.layer_decay', methods: ['layerwise'], example: '0.8, 0.9, 0.95' },
]

/** What the form holds. */
export class Draft {
  trainingFile = $state('')
  /** Empty = a fifth of the training rows is held out. */
  validationFile = $state('')
  model = $state('')
  methods: MethodName[] = $state([...methods])
  /** Values by path, as they were typed. */
  grid: { path: string; values: string }[] = $state([])
  seeds = $state(1)
  epochs: number | null = $state(null)
  maxSteps: number | null = $state(null)
  stopEarly = $state(false)
  suffix = $state('')

  /** Runs that this will take, as far as the page can tell. */
  get runs(): number {
    const each = this.methods.map((method) =>
      this.#varied
        .filter(({ path }) => settings.find((setting) => setting.path === path)?.methods?.includes(method) ?? true)
        .reduce((product, { values }) => product * values.length, 1),
    )
    return this.seeds * each.reduce((sum, n) => sum + n, 0)
  }

  get body(): ExperimentBody {
    const held = this.validationFile === ''
    return {
      model: this.model,
      training_file: this.trainingFile,
      ...(!held && { validation_file: this.validationFile }),
      ...(this.suffix !== '' && { suffix: this.suffix }),
      ...this.#training(held),
      methods: this.methods.length === methods.length ? 'all' : this.methods.map((type) => ({ type })),
      ...(this.#varied.length > 0 && { grid: Object.fromEntries(this.#varied.map(({ path, values }) => [path, values])) }),
      ...(this.seeds > 1 && { seeds: Array.from({ length: this.seeds }, (_, i) => i + 1) }),
      ...(this.stopEarly && { strategy: { type: 'asha', reduction: 3 } }),
      ...(this.maxSteps !== null && { budget: { max_steps: this.maxSteps } }),
    }
  }

  #training(held: boolean): Pick<ExperimentBody, 'training'> {
    const training = { ...(this.epochs !== null && { num_train_epochs: this.epochs }), ...(held && { eval_split: 0.2 }) }
    return Object.keys(training).length > 0 ? { training } : {}
  }

  get #varied(): { path: string; values: unknown[] }[] {
    return this.grid.map(({ path, values }) => ({ path, values: listed(values) })).filter(({ values }) => values.length > 0)
  }
}

/** "1e-4, cosine" → [0.0001, "cosine"]. */
export const listed = (text: string): unknown[] =>
  text
    .split(/[,;]/)
    .map((part) => part.trim())
    .filter(Boolean)
    .map((part) => (Number.isFinite(Number(part)) ? Number(part) : part))
