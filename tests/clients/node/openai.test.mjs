// OpenAI's official npm client, unmodified, against the real server.

import assert from "node:assert/strict";
import { appendFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import OpenAI, { toFile } from "openai";

import { MODEL, reviews, start } from "./server.mjs";

const ENDED = ["succeeded", "failed", "cancelled"];
const SECRET = `whsec_${Buffer.from("a secret of thirty-two bytes....").toString("base64")}`;
const QUICK = { tuning: { type: "lora", r: 4, lora_alpha: 8 }, training: { max_steps: 1 } };

let server, client, receiver;
const told = [];

before(async () => {
  receiver = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    told.push({ headers: request.headers, body });
    response.writeHead(204).end();
  });
  await new Promise((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  const hook = `http://127.0.0.1:${receiver.address().port}/`;
  server = await start(["--webhook", hook], { TAPER_WEBHOOK_SECRET: SECRET });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "unused", maxRetries: 0, fetch: noting });
});

after(() => {
  server?.stop();
  receiver?.close();
});

/** Notes each answer in the file that TAPER_ANSWERS names, where there is one: published.py holds them against OpenAI's schema. */
async function noting(url, options) {
  const answer = await fetch(url, options);
  if (process.env.TAPER_ANSWERS) {
    const { pathname } = new URL(url);
    const kind = answer.headers.get("content-type");
    const noted = { method: options.method.toUpperCase(), path: pathname, status: answer.status, kind, body: await answer.clone().text() };
    appendFileSync(process.env.TAPER_ANSWERS, `${JSON.stringify(noted)}\n`);
  }
  return answer;
}

async function upload(count, purpose = "fine-tune") {
  const file = await client.files.create({ file: await toFile(Buffer.from(reviews(count)), "rows.jsonl"), purpose });
  return client.files.waitForProcessing(file.id, { pollInterval: 50 });
}

function create(file, more = {}) {
  return client.fineTuning.jobs.create({ model: MODEL, training_file: file.id, ...QUICK, ...more });
}

async function wait(id, states = ENDED) {
  for (;;) {
    const job = await client.fineTuning.jobs.retrieve(id);
    if (states.includes(job.status)) return job;
    assert.ok(!ENDED.includes(job.status), JSON.stringify(job.error));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function all(pages) {
  const items = [];
  for await (const item of pages) items.push(item);
  return items;
}

test("files", async () => {
  const text = reviews(5);
  // This client sends the file first and the purpose last.
  const file = await client.files.create({
    file: await toFile(Buffer.from(text), "rows.jsonl"),
    purpose: "user_data",
    expires_after: { anchor: "created_at", seconds: 7200 },
  });
  assert.equal(file.expires_at, file.created_at + 7200);
  assert.equal((await client.files.retrieve(file.id)).filename, "rows.jsonl");
  assert.equal(await (await client.files.content(file.id)).text(), text);
  const listed = await all(client.files.list({ purpose: "user_data", limit: 1 }));
  assert.deepEqual(listed.map((it) => it.id), [file.id]);
  assert.equal((await client.files.delete(file.id)).deleted, true);
  await assert.rejects(client.files.retrieve(file.id), OpenAI.NotFoundError);
});

test("uploads in parts", async () => {
  const rows = Buffer.from(reviews(20));
  const fields = { bytes: rows.length, filename: "rows.jsonl", mime_type: "text/jsonl", purpose: "fine-tune" };
  const begun = await client.uploads.create(fields);
  const middle = rows.length >> 1;
  const parts = [rows.subarray(0, middle), rows.subarray(middle)];
  const ids = [];
  for (const part of parts) ids.push((await client.uploads.parts.create(begun.id, { data: await toFile(part, "part") })).id);
  const done = await client.uploads.complete(begun.id, { part_ids: ids });
  assert.equal(done.status, "completed");
  assert.equal(await (await client.files.content(done.file.id)).text(), rows.toString());
  const other = await client.uploads.create(fields);
  assert.equal((await client.uploads.cancel(other.id)).status, "cancelled");
});

test("a job from its creation to its results", async () => {
  const made = await create(await upload(40), { suffix: "node", metadata: { from: "node" }, seed: 5 });
  assert.equal(made.object, "fine_tuning.job");
  const job = await wait(made.id);
  assert.equal(job.status, "succeeded", JSON.stringify(job.error));
  assert.ok(job.fine_tuned_model.startsWith(`ft:${MODEL}:default:node:`));
  const events = await all(client.fineTuning.jobs.listEvents(job.id, { limit: 2 }));
  assert.equal(new Set(events.map((it) => it.id)).size, events.length);
  assert.equal(events[0].data.status, "succeeded");
  const [checkpoint] = await all(client.fineTuning.jobs.checkpoints.list(job.id, { limit: 1 }));
  assert.equal(checkpoint.fine_tuned_model_checkpoint, `${job.fine_tuned_model}:ckpt-step-1`);
  const table = await (await client.files.content(job.result_files[0])).text();
  assert.match(table, /^step,train_loss/);
  for (const id of [MODEL, job.fine_tuned_model]) assert.equal((await client.models.retrieve(id)).id, id);
  assert.ok((await all(client.models.list())).some((it) => it.id === job.fine_tuned_model));
  assert.equal((await client.models.delete(job.fine_tuned_model)).deleted, true);
});

test("sixty jobs page by themselves", async () => {
  const file = await upload(8);
  const made = [];
  for (let n = 0; n < 60; n += 1) made.push((await create(file, { metadata: { batch: "sixty" } })).id);
  const listed = await all(client.fineTuning.jobs.list({ metadata: { batch: "sixty" } }));
  assert.deepEqual(listed.map((it) => it.id), made.reverse());
  for (const id of made) await wait(id);
});

test("a job that is paused goes on", async () => {
  const job = await create(await upload(60), { training: { num_train_epochs: 10000 } });
  await wait(job.id, ["running"]);
  assert.equal((await client.fineTuning.jobs.pause(job.id)).status, "paused");
  assert.equal((await client.fineTuning.jobs.resume(job.id)).status, "queued");
  assert.equal((await client.fineTuning.jobs.cancel(job.id)).status, "cancelled");
});

test("an end is told by a webhook that the client takes", async () => {
  const job = await create(await upload(60), { training: { num_train_epochs: 10000 } });
  await wait(job.id, ["running"]);
  assert.equal((await client.fineTuning.jobs.cancel(job.id)).status, "cancelled");
  let found;
  for (let tries = 0; !found && tries < 200; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    found = told.find((it) => it.body.includes(job.id));
  }
  const event = await client.webhooks.unwrap(found.body, found.headers, SECRET);
  assert.equal(event.type, "fine_tuning.job.cancelled");
  await assert.rejects(client.webhooks.unwrap(`${found.body} `, found.headers, SECRET));
});

test("errors carry code, param and request id", async () => {
  const file = await upload(8);
  await assert.rejects(create(file, { tuning: { type: "lora", r: 0 } }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.param, error.code, error.type], ["tuning.r", "invalid_value", "invalid_request_error"]);
    assert.match(error.requestID, /^req_/);
    return true;
  });
  await assert.rejects(client.fineTuning.jobs.retrieve("ftjob-none"), OpenAI.NotFoundError);
  await assert.rejects(client.fineTuning.jobs.list({ limit: 0 }).then(), (error) => error.param === "limit");
});
