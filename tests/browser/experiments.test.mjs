import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { becomes, Browser, drawnPixels, inspect, tableRows } from './browser.mjs'
import { rows, writeModel } from './model.mjs'
import { Server } from './server.mjs'

const server = new Server()
const browser = new Browser()
const short = { max_steps: 120, logging_steps: 10, eval_steps: 20 }
const endless = { max_steps: 1_000_000, logging_steps: 50, eval_steps: 500 }

const experimentPage = (experiment) => `/experiments/${experiment.id}`
const chip = (page) => page.getByLabel('State', { exact: true }).locator('[data-state]').first()
const comparison = (page) => page.getByTestId('comparison')
/** The configurations in the order in which the table shows them. */
const order = (page) =>
  comparison(page)
    .locator('[data-configuration]')
    .evaluateAll((rows) => rows.map((row) => Number(row.dataset.configuration)))
const scatter = (page) => page.locator('figure', { hasText: 'Quality against cost' })
/** How many texts of its horizontal axis touch the one before. */
const touching = (page) =>
  scatter(page)
    .locator('.tick[text-anchor="middle"]')
    .evaluateAll((texts) => {
      const boxes = texts.map((text) => text.getBoundingClientRect())
      return boxes.filter(({ left }, i) => i > 0 && left < boxes[i - 1].right + 4).length
    })
const points = (page) => scatter(page).getByRole('img')

describe('experiments in the browser', { timeout: 600_000 }, () => {
  let train
  let valid

  before(async () => {
    writeModel(join(server.models, 'tiny-bert'))
    await server.start()
    train = await server.upload(rows(600, 1), 'train.jsonl')
    valid = await server.upload(rows(200, 2), 'valid.jsonl')
    await browser.start(server.base)
  })

  // What a failed test has left running must not keep the next from its turn.
  afterEach(() => server.cancelAll())

  after(async () => {
    await browser.stop()
    await server.stop()
  })

  const compare = (changes) =>
    server.compare({ model: 'tiny-bert', training_file: train, validation_file: valid, training: short, methods: 'all', ...changes })

  test('three clicks start a comparison of all methods', async () => {
    const page = await browser.open('/experiments')
    await page.getByText('No experiments yet').waitFor()
    await inspect(page, 'experiments-empty')
    await page.getByRole('link', { name: 'New comparison' }).click()
    await page.getByRole('heading', { name: 'Which method is best for your data?' }).waitFor()
    await page.getByRole('radio', { name: 'valid.jsonl' }).waitFor()
    await inspect(page, 'new-experiment')

    await page.getByRole('radio', { name: 'train.jsonl' }).click()
    await page.getByRole('radio', { name: 'tiny-bert' }).click()
    await page.getByRole('button', { name: 'Start 4 runs' }).click()
    await page.waitForURL(/\/experiments\/exp-/)
    const experiment = await server.experiment(new URL(page.url()).pathname.split('/').at(-1))
    assert.deepEqual(
      experiment.table.map(({ tuning }) => tuning.type),
      ['full', 'layerwise', 'lora', 'prompt_tuning'],
    )
    assert.equal(experiment.training_file, train)
    await chip(page).getByText('succeeded').waitFor({ timeout: 120_000 })
    await page.getByRole('link', { name: 'Experiments' }).first().click()
    await page.locator(`[data-id="${experiment.id}"]`).getByText('4 of 4 runs ended').waitFor()
    await inspect(page, 'experiments')
    assert.equal(
      (await page.getByTestId('connection').textContent()).trim(),
      'live',
      'a page that was left does not end the stream of this one',
    )
    await page.close()
    browser.assertSound()
  })

  test('the form sends a grid, seeds and a file that is uploaded there, and marks what is refused', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'taper-upload-'))
    writeFileSync(join(folder, 'more.jsonl'), rows(200, 3))
    const page = await browser.open('/experiments/new')
    await page.getByLabel('Upload a file').setInputFiles(join(folder, 'more.jsonl'))
    await page.getByRole('radio', { name: 'more.jsonl', checked: true }).waitFor()
    await page.getByRole('radio', { name: 'tiny-bert' }).check()
    await page.getByText('More: methods').click()
    const [, ...others] = (await server.settings()).methods
    for (const { title } of others) await page.getByRole('checkbox', { name: title }).uncheck()
    await page.getByLabel('Setting to vary').selectOption('training.learning_rate')
    await page.getByLabel('training.learning_rate', { exact: true }).fill('-1, 1e-3')
    await page.getByLabel('Runs of each').fill('2')
    await page.getByLabel('At most steps').fill('20')
    await inspect(page, 'new-experiment-more')
    await page.getByRole('button', { name: 'Start 4 runs' }).click()
    await page.getByRole('alert').getByText('learning_rate').first().waitFor()
    assert.equal(await page.getByLabel('training.learning_rate', { exact: true }).getAttribute('aria-invalid'), 'true')

    await page.getByLabel('training.learning_rate', { exact: true }).fill('1e-4, 1e-3')
    await page.getByRole('button', { name: 'Start 4 runs' }).click()
    await page.waitForURL(/\/experiments\/exp-/)
    const experiment = await server.experiment(new URL(page.url()).pathname.split('/').at(-1))
    assert.deepEqual(experiment.seeds, [1, 2])
    assert.equal(experiment.jobs.length, 4)
    assert.deepEqual(
      experiment.table.map(({ training }) => training.learning_rate),
      [1e-4, 1e-3],
    )
    await page.close()
    rmSync(folder, { recursive: true })
    browser.assertSound(/400 \(Bad Request\)/)
  })

  test('the view draws all curves live and ends with the table of the API', async () => {
    const experiment = await compare({ suffix: 'view', seeds: [1, 2], training: { ...short, max_steps: 400 } })
    const page = await browser.open(experimentPage(experiment))
    await page
      .getByTestId('state-line')
      .getByText(/of 8 runs ended/)
      .waitFor()
    await page.getByTestId('connection').getByText('live').waitFor()
    await page.locator('figure', { hasText: 'Training loss' }).first().waitFor()
    await page.reload()
    await chip(page).getByText('succeeded').waitFor({ timeout: 120_000 })
    await page.getByTestId('connection').getByText('finished').waitFor()

    const { table, best, recommendation } = await server.experiment(experiment.id)
    assert.equal((await page.getByTestId('recommendation').textContent()).trim(), recommendation)
    const shown = await comparison(page)
      .locator('[data-configuration]')
      .evaluateAll((rows) => rows.map((row) => [Number(row.dataset.configuration), row.textContent]))
    for (const [configuration, text] of shown) {
      const row = table.find((row) => row.configuration === configuration)
      for (const told of [row.label, row.metric.toFixed(3), `± ${row.metric_std.toFixed(3)}, 2 seeds`])
        assert.ok(text.includes(told), `${text} tells ${told}`)
    }
    assert.equal(await comparison(page).locator('.best').getAttribute('data-configuration'), String(best))
    for (const title of ['Validation accuracy', 'Validation loss', 'Training loss']) {
      assert.ok((await drawnPixels(page, title)) > 500, `${title} is not blank`)
    }
    const last = async () => {
      const [step, ...values] = (await tableRows(page, 'Validation accuracy')).at(-1)
      return [step, values.filter((value) => value !== undefined).length]
    }
    await becomes(last, [400, 4 * 3], 'two seeds and their mean for each method')
    await inspect(page, 'experiment')
    await page.close()
    browser.assertSound()
  })

  test('the table is sorted, curves are hidden, and the scatter plot shows each cost', async () => {
    const experiment = await compare({ suffix: 'tools' })
    const { table } = await server.untilExperiment(experiment.id, ({ status }) => status === 'succeeded', 120)
    const page = await browser.open(experimentPage(experiment))
    await comparison(page).locator('[data-configuration]').nth(3).waitFor()
    await page.getByTestId('connection').getByText('finished').waitFor()
    const by = (value) => table.toSorted((a, b) => value(a) - value(b)).map(({ configuration }) => configuration)
    await comparison(page).getByRole('button', { name: 'Trained' }).click()
    await becomes(
      () => order(page),
      by((row) => row.trainable_parameters),
    )
    await comparison(page).getByRole('button', { name: 'Time' }).focus()
    await page.keyboard.press('Enter')
    await becomes(
      () => order(page),
      by((row) => row.train_seconds),
    )
    await page.keyboard.press('Enter')
    await becomes(() => order(page), by((row) => row.train_seconds).reverse())
    assert.equal(await comparison(page).locator('th[aria-sort]').getAttribute('aria-sort'), 'descending')

    const title = 'Validation accuracy'
    const columns = async () => (await tableRows(page, title)).at(-1).length
    await becomes(columns, 1 + 4)
    await becomes(() => points(page).count(), 4)
    const button = page.getByRole('button', { name: table[0].label, exact: true })
    await button.click()
    assert.equal(await button.getAttribute('aria-pressed'), 'false')
    await becomes(columns, 1 + 3)
    await becomes(() => points(page).count(), 3)
    await page.getByRole('button', { name: 'Show all' }).click()
    await becomes(columns, 1 + 4)

    const wide = page.viewportSize()
    for (const [cost, told] of [
      ['Time', 'training time'],
      ['Memory', 'peak memory'],
      ['Parameters', 'trained parameters'],
    ]) {
      await page.getByLabel(cost, { exact: true }).check({ force: true })
      const names = await points(page).evaluateAll((points) => points.map((point) => point.getAttribute('aria-label')))
      for (const { label } of table)
        assert.ok(
          names.some((name) => name.startsWith(`${label}: Validation accuracy`) && name.includes(told)),
          `${label} in ${names}`,
        )
      await page.setViewportSize({ width: 390, height: 844 })
      // The plot follows the new width some frames later.
      await page.waitForTimeout(250)
      await becomes(() => touching(page), 0, `the ticks of ${cost} on a narrow page`)
      await page.setViewportSize(wide)
    }
    const differences = page.getByTestId('differences')
    await differences.getByText('training.learning_rate').waitFor()
    assert.equal(await differences.locator('tbody tr').count(), 4)

    const [csv] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'CSV' }).click()])
    assert.equal(csv.suggestedFilename(), `${experiment.id}.csv`)
    await page.close()
    browser.assertSound()
  })

  test('an experiment is paused, resumed, cancelled and deleted as a whole', async () => {
    const experiment = await compare({ suffix: 'whole', training: endless, methods: [{ type: 'lora' }, { type: 'full' }] })
    const page = await browser.open(experimentPage(experiment))
    await server.untilExperiment(experiment.id, ({ progress }) => progress.steps > 100)
    await page.getByRole('button', { name: 'Pause' }).click()
    await chip(page).getByText('paused').waitFor()
    await server.untilExperiment(experiment.id, ({ status }) => status === 'paused')
    await page.getByRole('button', { name: 'Resume' }).click()
    await chip(page).getByText('running').waitFor()
    await inspect(page, 'experiment-running')
    await page.getByRole('button', { name: 'Cancel experiment' }).click()
    await page.getByRole('button', { name: 'Cancel the experiment' }).click()
    await chip(page).getByText('cancelled').waitFor()
    for (const id of experiment.jobs) assert.equal((await server.job(id)).status, 'cancelled')
    await page.getByRole('button', { name: 'Delete' }).click()
    await page.getByRole('button', { name: 'Delete the experiment' }).click()
    await page.getByRole('heading', { name: 'Experiments', exact: true }).waitFor()
    await assert.rejects(server.experiment(experiment.id), /404/)
    await page.goto(server.base + experimentPage(experiment))
    await page.getByText('There is no such experiment').waitFor()
    await page.close()
    browser.assertSound(/404 \(Not Found\)/)
  })

  test('a run that waits at its rung is offered no way on of its own', async () => {
    const experiment = await compare({
      suffix: 'rung',
      methods: [{ type: 'lora' }],
      grid: { 'tuning.r': [4, 8] },
      strategy: { type: 'asha', reduction: 2 },
    })
    const [first, second] = experiment.jobs
    // So it never comes to the rung.
    await server.call('POST', `/v1/fine_tuning/jobs/${second}/pause`)
    await server.until(first, ({ reason }) => reason === 'rung')
    const page = await browser.open(`/jobs/${first}`)
    await page.getByTestId('state-line').getByText('waits for the other runs of its experiment').waitFor()
    await page.getByRole('button', { name: 'Cancel job' }).waitFor()
    assert.equal(await page.getByRole('button', { name: /Resume|Pause/ }).count(), 0)
    await inspect(page, 'job-at-rung')
    await page.goto(`${server.base}/jobs/${second}`)
    await page.getByRole('button', { name: 'Resume' }).waitFor()
    await page.close()
    browser.assertSound()
  })

  test('a run that fails stands in the table with its reason, and the others go on', async () => {
    // A step of the larger rate makes every weight nine times as large.
    const experiment = await compare({
      suffix: 'partly',
      training: { ...short, weight_decay: 1 },
      methods: [{ type: 'full' }, { type: 'lora' }],
      grid: { 'training.learning_rate': [1e-3, 10] },
    })
    const { table } = await server.untilExperiment(experiment.id, ({ status }) => status === 'succeeded', 120)
    const failed = table.filter(({ status }) => status === 'failed')
    assert.deepEqual(
      failed.map(({ training }) => training.learning_rate),
      [10, 10],
    )
    const page = await browser.open(experimentPage(experiment))
    const row = comparison(page).locator(`[data-configuration="${failed[0].configuration}"]`)
    await row.getByText(failed[0].error.message).waitFor()
    await row.getByText('failed', { exact: true }).waitFor()
    await inspect(page, 'experiment-failed')
    await page.close()
    browser.assertSound()
  })

  test('any jobs are compared by hand, by an address that can be kept', async () => {
    const submit = (suffix, tuning) =>
      server.submit({ model: 'tiny-bert', training_file: train, validation_file: valid, suffix, tuning, training: short })
    const one = await submit('one', { type: 'lora', r: 4 })
    const two = await submit('two', { type: 'lora', r: 8 })
    const page = await browser.open('/')
    await page.getByRole('checkbox', { name: `${one.id}` }).check()
    await page.getByText('Choose another to compare with').waitFor()
    await page.getByRole('checkbox', { name: `${two.id}` }).check()
    await page.getByRole('link', { name: 'Compare 2 jobs' }).click()
    await page.getByRole('heading', { name: '2 jobs side by side' }).waitFor()
    assert.equal(new URL(page.url()).search, `?jobs=${one.id},${two.id}`)
    await page.getByTestId('connection').getByText('finished').waitFor({ timeout: 60_000 })
    await becomes(async () => (await tableRows(page, 'Validation accuracy')).at(-1).length, 3)
    await page.getByTestId('differences').getByText('tuning.r').waitFor()
    await page.reload()
    await comparison(page).getByText('tiny-bert · two').waitFor()
    const accuracy = (await server.job(one.id)).metrics.valid_accuracy.toFixed(3)
    await comparison(page).locator('[data-configuration="0"]').getByText(accuracy, { exact: true }).first().waitFor()
    await inspect(page, 'compare')
    await page.close()
    browser.assertSound()
  })

  test("a job's page shows its warnings and the experiment that it belongs to", async () => {
    const uneven = rows(400, 4)
      .split('\n')
      .filter((line, i) => line.includes('positive') || i % 20 === 0)
      .join('\n')
    const file = await server.upload(uneven, 'uneven.jsonl')
    const experiment = await compare({ training_file: file, methods: [{ type: 'lora' }], grid: { 'tuning.r': [4, 8] } })
    const job = await server.until(experiment.jobs[0], ({ status }) => status === 'succeeded')
    assert.ok(
      job.warnings.some(({ code }) => code === 'label_imbalance'),
      JSON.stringify(job.warnings),
    )
    const page = await browser.open(`/jobs/${job.id}`)
    for (const { message } of job.warnings) await page.getByLabel('Warnings').getByText(message).waitFor()
    await inspect(page, 'job-warnings')
    await page.getByRole('link', { name: experiment.id }).click()
    await comparison(page).waitFor()
    await page.close()
    browser.assertSound()
  })
})
