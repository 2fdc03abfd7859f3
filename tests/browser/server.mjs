// The real binary on a free port, with a data directory and a models directory of its own.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const binary = process.env.TAPER_BIN ?? fileURLToPath(new URL('../../target/release/taper', import.meta.url))

export class Server {
  #process
  #folder = mkdtempSync(join(tmpdir(), 'taper-browser-'))
  #data = join(this.#folder, 'data')
  models = join(this.#folder, 'models')
  base
  /** What the calls below show, if the server asks for it. */
  key

  /** Starts the binary; again on the same port and the same data after it has been killed. */
  async start() {
    const listen = this.base === undefined ? '127.0.0.1:0' : new URL(this.base).host
    this.#process = spawn(binary, ['serve', '--data-dir', this.#data, '--models-dir', this.models, '--listen', listen, '--threads', '1'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const ended = new Promise((_, reject) => {
      this.#process.once('error', reject)
      this.#process.once('exit', (code) => reject(new Error(`${binary} ended with ${code} before it listened`)))
    })
    ended.catch(() => {})
    const lines = createInterface({ input: this.#process.stdout })
    const first = await Promise.race([new Promise((resolve) => lines.once('line', resolve)), ended])
    this.base = first.replace('listening on ', '')
  }

  async kill(signal) {
    const gone = new Promise((resolve) => this.#process.once('exit', resolve))
    if (this.#process.kill(signal)) await gone
  }

  async stop() {
    await this.kill('SIGTERM')
    rmSync(this.#folder, { recursive: true })
  }

  /** What `taper keys` prints. */
  keys(...words) {
    const [action, ...rest] = words
    const output = execFileSync(binary, ['keys', action, '--data-dir', this.#data, ...rest], { stdio: ['ignore', 'pipe', 'ignore'] })
    return output.toString().trim()
  }

  async call(method, path, body) {
    const json = body !== undefined && !(body instanceof FormData)
    const answer = await fetch(this.base + path, {
      method,
      headers: {
        ...(json ? { 'content-type': 'application/json' } : {}),
        ...(this.key ? { authorization: `Bearer ${this.key}` } : {}),
      },
      body: json ? JSON.stringify(body) : body,
    })
    const content = await answer.json()
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(content)}`)
    return content
  }

  async upload(text, name = 'reviews.jsonl') {
    const form = new FormData()
    form.set('purpose', 'fine-tune')
    form.set('file', new Blob([text]), name)
    return (await this.call('POST', '/v1/files', form)).id
  }

  submit = (body) => this.call('POST', '/v1/fine_tuning/jobs', body)
  job = (id) => this.call('GET', `/v1/fine_tuning/jobs/${id}`)
  cancel = (id) => this.call('POST', `/v1/fine_tuning/jobs/${id}/cancel`)

  /** Methods, settings and tasks. */
  settings = () => this.call('GET', '/v1/fine_tuning/settings')

  /** The values of a figure by step. */
  async curve(id, name) {
    const { data } = await this.call('GET', `/v1/fine_tuning/jobs/${id}/metrics?names=${name}&points=10000`)
    return new Map(data[name].to.map((step, i) => [step, data[name].last[i]]))
  }

  compare = (body) => this.call('POST', '/v1/experiments', body)
  experiment = (id) => this.call('GET', `/v1/experiments/${id}`)

  async cancelAll() {
    const { data } = await this.call('GET', '/v1/fine_tuning/jobs?limit=100')
    const ended = ['succeeded', 'failed', 'cancelled']
    const hasEnded = async (id) => ended.includes((await this.job(id)).status)
    for (const { id, status } of data) {
      if (ended.includes(status)) continue
      // It may have ended by itself since the list was read.
      await this.cancel(id).catch(async (refusal) => assert.ok(await hasEnded(id), refusal))
    }
  }

  /** Waits until `holds` is true of a job. */
  until = (id, holds, seconds) => until(() => this.job(id), holds, seconds)
  untilExperiment = (id, holds, seconds) => until(() => this.experiment(id), holds, seconds)
}

async function until(read, holds, seconds = 60) {
  const end = Date.now() + 1000 * seconds
  for (;;) {
    const now = await read()
    if (holds(now)) return now
    if (Date.now() > end) throw new Error(`waited ${seconds} s in vain: ${JSON.stringify(now)}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
