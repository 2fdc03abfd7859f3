import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { Browser, drawnPixels, inspect, shownStep, tableRows } from './browser.mjs'
import { rows, writeModel } from './model.mjs'
import { Server } from './server.mjs'

const server = new Server()
const browser = new Browser()
/** Runs until it is cancelled. */
const endless = { max_steps: 1_000_000, logging_steps: 50, eval_steps: 500, save_steps: 5000, eval_split: 0.2, learning_rate: 1e-3 }
const short = { max_steps: 400, logging_steps: 10, eval_steps: 50, save_steps: 200, eval_split: 0.2, learning_rate: 2e-3 }

const jobPage = (job) => `/jobs/${job.id}`
const chip = (page) => page.locator('main [data-state]').first()
const row = (page, job) => page.locator(`[data-id="${job.id}"]`)
const stepOf = (job) => job.metrics.step ?? 0

/** Waits until a page's figure has passed a value. */
async function passes(read, value, seconds = 20) {
  const end = Date.now() + 1000 * seconds
  for (;;) {
    const now = await read()
    if (now > value) return now
    assert.ok(Date.now() < end, `${now} did not pass ${value} in ${seconds} s`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

/** Asserts that what a job page has drawn is the API's curve from its start on, and nothing else; answers the last step drawn. */
async function assertWholeCurve(page, job) {
  const drawn = (await tableRows(page, 'Loss')).filter(([, loss]) => loss !== undefined)
  const curve = await server.curve(job.id, 'train_loss')
  // The table shows about 40 rows, evenly spread.
  const start = [...curve.keys()].slice(0, 2 + curve.size / 40)
  assert.ok(start.includes(drawn[0][0]), `the curve begins at step ${drawn[0][0]}`)
  for (const [step, loss] of drawn) {
    assert.ok(curve.has(step), `step ${step} is not in the API's curve, which ends at ${[...curve.keys()].at(-1)}`)
    assert.ok(Math.abs(loss - curve.get(step)) <= 1e-3 * curve.get(step), `step ${step}: ${loss} is not ${curve.get(step)}`)
  }
  return drawn.at(-1)[0]
}

describe('the browser page', { timeout: 600_000 }, () => {
  let file

  before(async () => {
    for (const name of ['tiny-bert', 'fragile']) writeModel(join(server.models, name))
    await server.start()
    file = await server.upload(rows(600, 1))
    await browser.start(server.base)
  })

  // What a failed test has left running must not keep the next from its turn.
  afterEach(() => server.cancelAll())

  after(async () => {
    await browser.stop()
    await server.stop()
  })

  test('without jobs it names the next step, and the first job appears by itself', async () => {
    const page = await browser.open('/')
    await page.getByText('No jobs yet').waitFor()
    assert.match(await page.locator('pre').first().textContent(), new RegExp(`^curl ${server.base}/v1/files`))
    await inspect(page, 'empty')

    const job = await server.submit({ model: 'tiny-bert', training_file: file, suffix: 'first', training: short })
    await row(page, job).getByText('tiny-bert · first').waitFor()
    await row(page, job).getByText('succeeded').waitFor()
    await row(page, job)
      .getByRole('img', { name: /Training loss from/ })
      .waitFor()
    await page.close()
    browser.assertSound()
  })

  test('the list follows a running job, and the job page draws its curve live', async () => {
    const page = await browser.open('/')
    const job = await server.submit({ model: 'tiny-bert', training_file: file, suffix: 'live', training: endless })
    await row(page, job).getByText('running').waitFor()
    const step = async () => Number(/step ([\d,]+)/.exec(await row(page, job).textContent())?.[1].replaceAll(',', '') ?? 0)
    await passes(step, await passes(step, 0))

    await row(page, job).getByRole('link').click()
    await page.getByTestId('state-line').getByText('tok/s').waitFor()
    assert.equal(new URL(page.url()).pathname, jobPage(job))
    await page.getByTestId('connection').getByText('live').waitFor()
    const first = await shownStep(page)
    await passes(() => shownStep(page), first + 200)
    assert.match(await page.getByTestId('state-line').textContent(), /^step [\d,]+\/1,000,000 · \d+ % · ETA .+ · .+ tok\/s · loss /)
    assert.ok((await drawnPixels(page, 'Loss')) > 1000, 'the loss chart is not blank')
    assert.ok((await drawnPixels(page, 'Learning rate')) > 500, 'the learning rate chart is not blank')
    await page.goBack()
    await row(page, job).waitFor()
    await page.close()
    browser.assertSound()
  })

  test('a reload in mid-run shows the whole curve', async () => {
    const job = await server.submit({ model: 'tiny-bert', training_file: file, suffix: 'reload', training: endless })
    const page = await browser.open(jobPage(job))
    const seen = await passes(() => shownStep(page), 1000)
    await page.reload()
    await passes(() => shownStep(page), seen)
    const last = await assertWholeCurve(page, job)
    assert.ok(last >= seen, `${last} reaches ${seen}`)
    await passes(() => shownStep(page), last)
    await page.close()
    browser.assertSound()
  })

  test('smoothing, logarithm, zoom and theme keep their place while data arrives', async () => {
    const job = await server.submit({ model: 'tiny-bert', training_file: file, suffix: 'tools', training: endless })
    const page = await browser.open(jobPage(job))
    await passes(() => shownStep(page), 500)
    await page.getByLabel('Smoothing').fill('0.9')
    await page.getByLabel('Logarithmic loss').check()
    const plot = await page.locator('figure', { hasText: 'Loss' }).first().locator('.u-over').boundingBox()
    await page.mouse.move(plot.x + 0.2 * plot.width, plot.y + 50)
    await page.mouse.down()
    await page.mouse.move(plot.x + 0.6 * plot.width, plot.y + 60, { steps: 5 })
    await page.mouse.up()
    const zoomed = page.getByRole('button', { name: /show all and follow/ })
    const text = await zoomed.textContent()
    await page.getByLabel('dark').check({ force: true })
    const now = await shownStep(page)
    await passes(() => shownStep(page), now + 200)
    assert.equal(await zoomed.textContent(), text)
    assert.equal(await page.getByLabel('Smoothing').inputValue(), '0.9')
    assert.ok(await page.getByLabel('Logarithmic loss').isChecked())
    await page.mouse.dblclick(plot.x + 0.5 * plot.width, plot.y + 60)
    await zoomed.waitFor({ state: 'detached' })

    await page.reload()
    assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme), 'dark', 'the theme is kept')
    await page.getByLabel('system').check({ force: true })
    await page.close()
    browser.assertSound()
  })

  test('a finished job offers its artifacts', async () => {
    const job = await server.submit({ model: 'tiny-bert', training_file: file, suffix: 'done', training: short })
    const page = await browser.open(jobPage(job))
    await chip(page).getByText('succeeded').waitFor()
    await page.getByTestId('connection').getByText('finished').waitFor()
    await page.getByTestId('validation').getByText('Accuracy').waitFor()
    assert.ok((await drawnPixels(page, 'Validation scores')) > 500, 'the chart of scores is not blank')
    await page.getByTestId('checkpoints').getByText('400').first().waitFor()
    await page.getByTestId('settings').getByText('lora_alpha').waitFor()
    await page.getByTestId('events').getByText('info').first().waitFor()

    const link = page.getByTestId('artifacts').getByRole('link', { name: 'adapter/adapter_config.json' })
    const [download] = await Promise.all([page.waitForEvent('download'), link.click()])
    const config = JSON.parse(readFileSync(await download.path(), 'utf8'))
    assert.equal(config.peft_type, 'LORA')
    const button = page.getByRole('link', { name: 'Download adapter.zip' })
    const [zip] = await Promise.all([page.waitForEvent('download'), button.click()])
    assert.equal(
      readFileSync(await zip.path())
        .subarray(0, 2)
        .toString(),
      'PK',
    )
    await inspect(page, 'job')
    assert.equal(await assertWholeCurve(page, job), 400)
    await page.close()
    browser.assertSound()
  })

  test('what a job has made is called what its method makes, everywhere on its page', async () => {
    const { methods } = await server.settings()
    const trained = { ...short, max_steps: 20, eval_steps: 20 }
    const submit = ({ name }) => server.submit({ model: 'tiny-bert', training_file: file, tuning: { type: name }, training: trained })
    const jobs = await Promise.all(methods.map(submit))
    assert.ok(new Set(methods.map(({ result }) => result)).size === 2, 'some methods make adapters, others whole models')
    for (const [i, { title, result }] of methods.entries()) {
      await server.until(jobs[i].id, ({ status }) => status === 'succeeded')
      const page = await browser.open(jobPage(jobs[i]))
      const button = page.getByRole('link', { name: `Download ${result}.zip` })
      const [zip] = await Promise.all([page.waitForEvent('download'), button.click()])
      const content = readFileSync(await zip.path(), 'latin1')
      assert.equal(content.includes('adapter_config.json'), result === 'adapter', title)
      await page.getByTestId('artifacts').getByRole('link').first().waitFor()
      const text = await page.locator('main').innerText()
      assert.ok(text.includes(title), `the page calls the method ${title}`)
      if (result === 'model') assert.doesNotMatch(text, /adapter/i, title)
      if (result === 'model') await inspect(page, 'job-model')
      await page.close()
    }
    browser.assertSound()
  })

  test('cancel asks first, then stops the job', async () => {
    const job = await server.submit({ model: 'tiny-bert', training_file: file, suffix: 'unwanted', training: endless })
    const page = await browser.open(jobPage(job))
    await passes(() => shownStep(page), 100)
    await inspect(page, 'running')
    await page.getByRole('button', { name: 'Cancel job' }).focus()
    await page.keyboard.press('Enter')
    await page.getByRole('dialog').getByText('Cancel this job?').waitFor()
    await page.keyboard.press('Escape')
    assert.equal((await server.job(job.id)).status, 'running')
    await page.getByRole('button', { name: 'Cancel job' }).click()
    await page.getByRole('button', { name: 'Cancel the job' }).click()
    await chip(page).getByText('cancelled').waitFor()
    assert.equal((await server.job(job.id)).status, 'cancelled')
    await page.getByRole('button', { name: 'Cancel job' }).waitFor({ state: 'detached' })
    await page.close()
    browser.assertSound()
  })

  test('a job is paused, moved, resumed, and deleted once it has ended', async () => {
    const job = await server.submit({ model: 'tiny-bert', training_file: file, suffix: 'interrupted', training: endless })
    const page = await browser.open(jobPage(job))
    await passes(() => shownStep(page), 100)
    await page.getByRole('button', { name: 'Pause' }).click()
    await chip(page).getByText('paused').waitFor()
    await inspect(page, 'paused')
    const paused = await server.job(job.id)
    assert.equal(paused.status, 'paused')
    await page.getByLabel('Priority').fill('7')
    await page.getByLabel('Priority').press('Tab')
    await server.until(job.id, (job) => job.priority === 7)
    await page.getByRole('button', { name: 'Resume' }).click()
    await passes(() => shownStep(page), stepOf(paused) + 50)
    await server.cancel(job.id)
    await chip(page).getByText('cancelled').waitFor()
    await page.getByRole('button', { name: 'Delete' }).click()
    await page.getByRole('button', { name: 'Delete the job' }).click()
    await page.getByRole('heading', { name: 'Fine-tuning jobs' }).waitFor()
    await row(page, job).waitFor({ state: 'detached' })
    await assert.rejects(server.job(job.id), /404/)
    await page.close()
    browser.assertSound()
  })

  test('a failed job shows its error', async () => {
    const busy = await server.submit({ model: 'tiny-bert', training_file: file, training: endless })
    await server.until(busy.id, (job) => stepOf(job) > 0)
    const job = await server.submit({ model: 'fragile', training_file: file, suffix: 'broken', training: short })
    await server.until(job.id, (job) => job.status === 'queued')
    const page = await browser.open(jobPage(job))
    await chip(page).getByText('queued').waitFor()
    await page
      .getByTestId('state-line')
      .getByText(/^position 1 in the queue, starts in about/)
      .waitFor()
    await inspect(page, 'queued')
    writeFileSync(join(server.models, 'fragile', 'model.safetensors'), 'no longer a model')
    await server.cancel(busy.id)
    const box = page.getByRole('region', { name: 'Error' })
    await box.waitFor()
    const { error } = await server.job(job.id)
    assert.ok((await box.textContent()).includes(error.message))
    assert.ok((await box.textContent()).includes(error.code))
    await page.getByTestId('events').getByText('error', { exact: true }).waitFor()
    await inspect(page, 'failed')
    await page.close()
    browser.assertSound()
  })

  test('names with markup are text, and an unknown job says so', async () => {
    const markup = '<img src=x onerror=alert(1)>'
    const strange = await server.upload(rows(100, 2, ['<b>bold</b>', markup]))
    const job = await server.submit({ model: 'tiny-bert', training_file: strange, training: short })
    const page = await browser.open(jobPage(job))
    await page.getByTestId('settings').getByText(markup).waitFor()
    await page.goto(`${server.base}/jobs/ftjob-none`)
    await page.getByText('There is no such job').waitFor()
    await page.close()
    browser.assertSound(/404 \(Not Found\)/)
  })

  test('the list of all jobs is sound at every width', async () => {
    const page = await browser.open('/')
    await page.locator('[data-id]').nth(5).waitFor()
    await inspect(page, 'jobs')
    await page.close()
    browser.assertSound()
  })

  test('after the server was killed the page goes on without a reload, and the curve has no zig-zag', async () => {
    const job = await server.submit({
      model: 'tiny-bert',
      training_file: file,
      suffix: 'crash',
      training: { ...endless, save_steps: 1_000_000 },
    })
    const page = await browser.open(jobPage(job))
    // Far enough for the second attempt to be behind the first when it is looked at.
    await passes(() => shownStep(page), 10_000, 60)
    await server.kill('SIGKILL')
    await page
      .getByTestId('connection')
      .getByText(/reconnecting, last data/)
      .waitFor()
    await server.start()
    await page.getByTestId('connection').getByText('live').waitFor()
    await server.until(job.id, (job) => job.attempt === 2 && job.status === 'running')
    await page.getByText('attempt 2').waitFor()
    await page.locator('figure', { hasText: 'Loss' }).first().waitFor()
    const last = await assertWholeCurve(page, job)
    await passes(async () => (await tableRows(page, 'Loss')).at(-1)[0], last)
    await assertWholeCurve(page, job)
    await page.close()
    browser.assertSound(/ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET/)
  })
})
