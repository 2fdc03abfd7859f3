// A real Chromium whose pages note all that must not happen.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { chromium } from 'playwright-core'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const screenshots = fileURLToPath(new URL('screenshots', import.meta.url))
const arguments_ = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

export class Browser {
  #profile = mkdtempSync(join(tmpdir(), 'taper-chromium-'))
  #context
  #origin
  /** What went wrong on any page since the last look. */
  faults = []

  async start(origin) {
    this.#origin = origin
    this.#context = await chromium.launchPersistentContext(this.#profile, {
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: arguments_,
      acceptDownloads: true,
      viewport: { width: 1440, height: 900 },
    })
    this.#context.setDefaultTimeout(20_000)
    mkdirSync(screenshots, { recursive: true })
  }

  async stop() {
    await this.#context?.close()
    rmSync(this.#profile, { recursive: true, force: true })
  }

  /** Signs out without saying so. */
  async forget() {
    await this.#context.clearCookies()
  }

  async open(path) {
    const page = await this.#context.newPage()
    page.on('request', (request) => {
      const url = new URL(request.url())
      if (url.origin !== this.#origin && url.protocol !== 'blob:') this.faults.push(`request to ${url}`)
    })
    page.on('console', (message) => {
      if (message.type() === 'error') this.faults.push(`console: ${message.text()} (${message.location().url})`)
    })
    page.on('pageerror', (error) => this.faults.push(`exception: ${error}`))
    page.on('dialog', (dialog) => this.faults.push(`dialog: ${dialog.message()}`))
    await page.goto(this.#origin + path)
    return page
  }

  /** Asserts that nothing went wrong but what `allowed` names. */
  assertSound(allowed = /^$/) {
    assert.deepEqual(
      this.faults.splice(0).filter((fault) => !allowed.test(fault)),
      [],
    )
  }
}

/** Looks at a page in both themes and at both widths: no sideways scroll, no accessibility violation, a picture of each. */
export async function inspect(page, name) {
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [1440, 768, 390]) {
      await page.setViewportSize({ width, height: width === 390 ? 844 : 900 })
      await page.emulateMedia({ colorScheme })
      await page.waitForTimeout(250)
      const place = `${name}, ${colorScheme}, ${width} px`
      await becomes(() => page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0, `${place}: sideways scroll`)
      await page.evaluate(axe)
      const { violations, passes } = await page.evaluate(() => globalThis.axe.run())
      assert.deepEqual(
        violations.map((v) => [v.id, v.nodes.map((node) => node.html)]),
        [],
        place,
      )
      assert.ok(passes.length > 15, `${place}: axe looked at something`)
      await page.screenshot({ path: join(screenshots, `${name}-${colorScheme}-${width}.png`), fullPage: true })
    }
  }
  await page.setViewportSize({ width: 1440, height: 900 })
  await page.emulateMedia({ colorScheme: null })
}

/** Waits until `read` answers `expected`, for what a page shows only after it has fetched or drawn. */
export async function becomes(read, expected, told, seconds = 20) {
  const end = Date.now() + 1000 * seconds
  for (;;) {
    const now = await read()
    if (isDeepStrictEqual(now, expected)) return
    if (Date.now() > end) assert.deepEqual(now, expected, told)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Pixels of a chart that are not background. */
export function drawnPixels(page, title) {
  return page
    .locator('figure', { hasText: title })
    .locator('canvas')
    .first()
    .evaluate((canvas) => {
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
      let drawn = 0
      for (let i = 3; i < data.length; i += 4) if (data[i] > 40) drawn += 1
      return drawn
    })
}

/** The rows of a chart's data table by ascending step; a number each, `undefined` where there is no value. */
export async function tableRows(page, title) {
  const details = page.locator('figure details', { hasText: `${title} as a table` })
  if (!(await details.evaluate((element) => element.open))) await details.locator('summary').click()
  await details.locator('tbody th').first().waitFor()
  const rows = await details.locator('tbody tr').evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)))
  return rows.map((cells) => cells.map((text) => (text === '–' ? undefined : Number(text.replaceAll(',', ''))))).reverse()
}

/** The step that a job page's state line shows. */
export async function shownStep(page) {
  const text = await page.getByTestId('state-line').textContent()
  return Number(/step ([\d,]+)\//.exec(text)?.[1].replaceAll(',', '') ?? 0)
}
