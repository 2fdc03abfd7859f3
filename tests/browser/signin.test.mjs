import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { Browser, inspect } from './browser.mjs'
import { rows, writeModel } from './model.mjs'
import { Server } from './server.mjs'

const server = new Server()
const browser = new Browser()
const endless = { max_steps: 1_000_000, logging_steps: 50, eval_steps: 500, save_steps: 5000, eval_split: 0.2, learning_rate: 1e-3 }
/** What Chromium says of a refusal. */
const refused = /401 \(Unauthorized\)/

const row = (page, job) => page.locator(`[data-id="${job.id}"]`)
const heading = (page, name) => page.getByRole('heading', { name })
const changes = /Cancel job|Pause/
const idOf = (key) => key.split('-')[1]

async function signIn(page, key) {
  await page.getByLabel('Key').fill(key)
  await page.getByRole('button', { name: 'Sign in' }).click()
}

describe('a page of a server with keys', { timeout: 300_000 }, () => {
  let reader
  let other
  let job

  before(async () => {
    writeModel(join(server.models, 'tiny-bert'))
    server.key = server.keys('create', '--role', 'submit', '--project', 'films')
    reader = server.keys('create', '--role', 'read', '--project', 'films')
    other = server.keys('create', '--role', 'submit', '--project', 'books')
    await server.start()
    const file = await server.upload(rows(600, 1))
    job = await server.submit({ model: 'tiny-bert', training_file: file, suffix: 'live', training: endless })
    await browser.start(server.base)
  })

  afterEach(() => browser.forget())

  after(async () => {
    await browser.stop()
    await server.cancelAll()
    await server.stop()
  })

  test('it asks for a key, and shows the project of that key, live', async () => {
    const page = await browser.open('/')
    await heading(page, 'Sign in').waitFor()
    assert.ok(await page.getByLabel('Key').evaluate((input) => input === document.activeElement))
    await inspect(page, 'sign-in')
    await signIn(page, 'taper-000000000000-wrong')
    await page.getByRole('alert').getByText('the API key is not valid here').waitFor()
    await inspect(page, 'sign-in-refused')

    await signIn(page, server.key)
    await row(page, job).getByText('running').waitFor()
    await page.getByTestId('connection').getByText('live').waitFor()
    const shown = async () => Number(/step ([\d,]+)/.exec(await row(page, job).textContent())?.[1].replaceAll(',', '') ?? 0)
    const first = await shown()
    const end = Date.now() + 20_000
    while ((await shown()) <= first) assert.ok(Date.now() < end, 'the stream goes on')
    assert.equal(await page.getByTestId('who').textContent(), 'films · submit')
    await inspect(page, 'signed-in')

    const [cookie] = await page.context().cookies()
    assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.secure], [true, 'Strict', false])
    assert.equal(await page.evaluate(() => document.cookie), '')
    assert.equal(await page.evaluate(() => JSON.stringify({ ...localStorage }).includes('taper-')), false)
    await page.reload()
    await row(page, job).waitFor()

    await page.getByRole('button', { name: 'Sign out' }).click()
    await heading(page, 'Sign in').waitFor()
    await page.reload()
    await heading(page, 'Sign in').waitFor()
    assert.equal((await page.context().cookies()).length, 0)
    await page.close()
    browser.assertSound(refused)
  })

  test('another project sees nothing of it', async () => {
    const page = await browser.open('/')
    await signIn(page, other)
    await page.getByText('No jobs yet').waitFor()
    assert.match(await page.locator('pre').first().textContent(), /-H "Authorization: Bearer \$TAPER_KEY"/)
    await page.goto(`${server.base}/experiments/new`)
    await page.getByText('The same with curl').click()
    assert.match(await page.locator('pre').textContent(), /^curl \S+\/v1\/experiments -H "Authorization: Bearer \$TAPER_KEY"/)
    await page.goto(`${server.base}/jobs/${job.id}`)
    await page.getByText('There is no such job').waitFor()
    await page.close()
    browser.assertSound(/401 \(Unauthorized\)|404 \(Not Found\)/)
  })

  test('a server on another port has a session of its own', async () => {
    const neighbour = new Server()
    neighbour.key = neighbour.keys('create', '--role', 'read', '--project', 'plays')
    await neighbour.start()
    const page = await browser.open('/')
    await signIn(page, other)
    await page.getByText('books · submit').waitFor()
    await page.goto(neighbour.base)
    await signIn(page, neighbour.key)
    await page.getByText('plays · read').waitFor()
    await page.goto(server.base)
    await page.getByText('books · submit').waitFor()
    await page.close()
    await neighbour.stop()
    browser.assertSound(new RegExp(`401 \\(Unauthorized\\)|^request to ${neighbour.base}/`))
  })

  test('changes are offered once the server has told that the key allows them, which it is asked until it does', async () => {
    const page = await browser.open('/')
    await signIn(page, server.key)
    await row(page, job).waitFor()
    let answer
    const answered = new Promise((resolve) => (answer = resolve))
    await page.route(
      '**/v1/session',
      async (route) => {
        await answered
        await route.fulfill({ status: 503 })
      },
      { times: 1 },
    )
    await page.goto(`${server.base}/jobs/${job.id}`)
    await page.getByTestId('state-line').getByText('tok/s').waitFor()
    assert.equal(await page.getByRole('button', { name: changes }).count(), 0)
    answer()
    await page.getByRole('button', { name: 'Pause' }).waitFor()
    await page.close()
    browser.assertSound(/401 \(Unauthorized\)|503 \(Service Unavailable\)/)
  })

  test('a reader is offered nothing that would be refused, and is out as soon as the key is revoked', async () => {
    const page = await browser.open(`/jobs/${job.id}`)
    await signIn(page, reader)
    await page.getByTestId('state-line').getByText('tok/s').waitFor()
    await page.getByText('films · read').waitFor()
    assert.equal(await page.getByRole('button', { name: changes }).count(), 0)
    await inspect(page, 'reader')
    await page.goto(`${server.base}/experiments/new`)
    await page.getByText('This key may only read').waitFor()
    assert.equal(await page.getByRole('button', { name: /Start/ }).count(), 0)
    await inspect(page, 'reader-new-experiment')
    await page.goto(`${server.base}/experiments`)
    await page.getByText('No experiments yet').waitFor()
    await page.getByText('films · read').waitFor()
    assert.equal(await page.getByRole('link', { name: /New comparison|Compare the methods/ }).count(), 0)
    server.keys('revoke', idOf(reader))
    await heading(page, 'Sign in').waitFor()
    await page.close()
    browser.assertSound(refused)
  })
})
