// What a script in TypeScript does with the types that openapi-typescript makes. That it compiles is half of the test.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Job = components["schemas"]["FineTuningJob"];
type Tuning = components["schemas"]["Tuning"];

/** Each alternative has its own fields, and `type` tells them apart. */
function rank(tuning: Tuning): number | null {
  return tuning.type === "lora" ? tuning.r : null;
}

export interface Seen {
  planned: number;
  rank: number | null;
  status: Job["status"];
  bytes: number;
  listed: string[];
  error: string | null | undefined;
}

/** A job from the upload to the download. */
export async function run(baseUrl: string, model: string, rows: string): Promise<Seen> {
  const client = createClient<paths>({ baseUrl });
  const file = await client.POST("/v1/files", {
    body: { purpose: "fine-tune", file: rows },
    bodySerializer: ({ purpose, file }) => {
      const form = new FormData();
      form.set("purpose", purpose);
      form.set("file", new Blob([file]), "rows.jsonl");
      return form;
    },
  });
  if (!file.data) throw new Error(file.error.error.message);

  const body: components["schemas"]["CreateFineTuningJob"] = {
    model,
    training_file: file.data.id,
    tuning: { type: "lora", r: 4 },
    training: { max_steps: 2 },
  };
  const plan = await client.POST("/v1/fine_tuning/jobs", { body, params: { query: { dry_run: true } } });
  if (!plan.data || !("memory_bytes" in plan.data)) throw new Error("no plan");
  const created = await client.POST("/v1/fine_tuning/jobs", { body });
  if (!created.data || !("id" in created.data)) throw new Error("no job");

  const path = { id: created.data.id };
  let job: Job = created.data;
  while (job.status !== "succeeded" && job.status !== "failed") {
    await new Promise((resolve) => setTimeout(resolve, 100));
    const found = await client.GET("/v1/fine_tuning/jobs/{id}", { params: { path } });
    if (!found.data) throw new Error(found.error.error.message);
    job = found.data;
  }
  const archive = await client.GET("/v1/fine_tuning/jobs/{id}/adapter.zip", { params: { path }, parseAs: "arrayBuffer" });
  const list = await client.GET("/v1/fine_tuning/jobs", { params: { query: { limit: 5 } } });
  const missing = await client.GET("/v1/fine_tuning/jobs/{id}", { params: { path: { id: "ftjob-none" } } });
  return {
    planned: plan.data.training_rows,
    rank: rank(job.tuning),
    status: job.status,
    bytes: archive.data?.byteLength ?? 0,
    listed: list.data?.data.map((listed) => listed.id) ?? [],
    error: missing.error?.error.param,
  };
}
