import { figure } from '../format'
import type { ExperimentBody, Setting, Settings } from '../types'

/** A setting that several values can be tried of. */
export interface Variable {
  /** For instance `tuning.r`. */
  path: string
  setting: Setting
  /** The names of the methods that have it. */
  methods: readonly string[]
  /** Values that one might try, or what is allowed. */
  example: string
}

/** What the form has fields of its own for. */
const fieldsOfTheForm = ['seed', 'eval_split']
const singleValued = ['integer', 'number', 'boolean', 'string']
const heldOut = 0.2

/** What the form for a comparison holds. */
export class Draft {
  readonly settings: Settings
  readonly variables: readonly Variable[]

  trainingFile = $state('')
  /** Empty = a fifth of the training rows is held out. */
  validationFile = $state('')
  model = $state('')
  /** Their names. */
  methods: string[]
  /** Values by path, as they were typed. */
  grid: { path: string; values: string }[] = $state([])
  seeds = $state(1)
  epochs: number | null = $state(null)
  maxSteps: number | null = $state(null)
  stopEarly = $state(false)
  suffix = $state('')

  constructor(settings: Settings) {
    this.settings = settings
    this.variables = variables(settings)
    this.methods = $state(settings.methods.map(({ name }) => name))
  }

  /** A setting of `training`. */
  training(name: string): Setting | undefined {
    return this.settings.training.find((setting) => setting.name === name)
  }

  variable(path: string): Variable | undefined {
    return this.variables.find((variable) => variable.path === path)
  }

  /** Titles of the chosen methods. */
  get titles(): string[] {
    return this.settings.methods.filter(({ name }) => this.methods.includes(name)).map(({ title }) => title)
  }

  /** Runs that this will take, as far as the page can tell. */
  get runs(): number {
    const each = this.methods.map((method) =>
      this.#varied
        .filter(({ path }) => this.variable(path)?.methods.includes(method))
        .reduce((product, { values }) => product * values.length, 1),
    )
    return this.seeds * each.reduce((sum, n) => sum + n, 0)
  }

  get body(): ExperimentBody {
    const isHeldOut = this.validationFile === ''
    return {
      model: this.model,
      training_file: this.trainingFile,
      ...(!isHeldOut && { validation_file: this.validationFile }),
      ...(this.suffix !== '' && { suffix: this.suffix }),
      ...this.#training(isHeldOut),
      methods: this.methods.length === this.settings.methods.length ? 'all' : this.methods.map((type) => ({ type })),
      ...(this.#varied.length > 0 && { grid: Object.fromEntries(this.#varied.map(({ path, values }) => [path, values])) }),
      ...(this.seeds > 1 && { seeds: Array.from({ length: this.seeds }, (_, i) => i + 1) }),
      ...(this.stopEarly && { strategy: { type: 'asha', reduction: 3 } }),
      ...(this.maxSteps !== null && { budget: { max_steps: this.maxSteps } }),
    }
  }

  #training(isHeldOut: boolean): Pick<ExperimentBody, 'training'> {
    const training = { ...(this.epochs !== null && { num_train_epochs: this.epochs }), ...(isHeldOut && { eval_split: heldOut }) }
    return Object.keys(training).length > 0 ? { training } : {}
  }

  get #varied(): { path: string; values: unknown[] }[] {
    return this.grid
      .map(({ path, values }) => ({ path, values: parsed(values, this.variable(path)?.setting.type) }))
      .filter(({ values }) => values.length > 0)
  }
}

/** The settings that most people look at and that take singleValued values: those of training, then those of the methods. */
function variables({ methods, training }: Settings): Variable[] {
  const found = new Map<string, Variable>()
  const add = (group: string, fields: readonly Setting[], names: readonly string[]) => {
    for (const setting of fields) {
      const path = `${group}.${setting.name}`
      if (!setting.common || !singleValued.includes(setting.type) || (group === 'training' && fieldsOfTheForm.includes(setting.name)))
        continue
      const others = found.get(path)?.methods ?? []
      found.set(path, { path, setting, methods: [...others, ...names], example: example(setting, methods) })
    }
  }
  add(
    'training',
    training,
    methods.map(({ name }) => name),
  )
  for (const { name, fields } of methods) add('tuning', fields, [name])
  return [...found.values()]
}

function example(setting: Setting, methods: Settings['methods']): string {
  const { name, type, values } = setting
  if (values) return values.slice(0, 3).join(', ')
  if (type === 'boolean') return 'true, false'
  const rates = methods.flatMap(({ default_learning_rate: byTask }) => Object.values(byTask))
  const usual = setting.default ?? (name === 'learning_rate' ? rates[0] : null)
  if (typeof usual !== 'number' || usual <= 0) return range(setting)
  const around = [usual / 2, usual, usual * 2].map((value) => (type === 'integer' ? Math.round(value) : value))
  return [...new Set(around)]
    .filter((value) => isAllowed(value, setting))
    .map(figure)
    .join(', ')
}

function isAllowed(value: number, { minimum, maximum, exclusive_minimum: above, exclusive_maximum: below }: Setting): boolean {
  return value >= (minimum ?? -Infinity) && value <= (maximum ?? Infinity) && value > (above ?? -Infinity) && value < (below ?? Infinity)
}

/** The range in words, as far as it has ends. */
function range({ minimum, maximum, exclusive_minimum: above, exclusive_maximum: below }: Setting): string {
  const ends = [
    minimum !== null && `from ${figure(minimum)}`,
    above !== null && `above ${figure(above)}`,
    maximum !== null && `to ${figure(maximum)}`,
    below !== null && `below ${figure(below)}`,
  ]
  return ends.filter((end) => end !== false).join(' ')
}

/** The values in a text: "1e-4, 1" → [0.0001, 1]. What is no value of the type stays a text, which the server refuses with a reason. */
export const parsed = (text: string, type: Setting['type'] = 'string'): unknown[] =>
  text
    .split(/[,;]/)
    .map((part) => part.trim())
    .filter(Boolean)
    .map((part) => {
      if (type === 'boolean') return part === 'true' || (part !== 'false' && part)
      return type !== 'string' && Number.isFinite(Number(part)) ? Number(part) : part
    })
