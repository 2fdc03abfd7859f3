// The types that openapi-typescript makes from the description of the API, and a script over them, against the real server.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { MODEL, reviews, start } from "./server.mjs";

const here = import.meta.dirname;
let server, script;

function run(program, ...args) {
  const ran = spawnSync(join(here, "node_modules", ".bin", program), args, { encoding: "utf8" });
  assert.equal(ran.status, 0, ran.stdout + ran.stderr);
}

before(async () => {
  const folder = mkdtempSync(join(tmpdir(), "taper-types-"));
  symlinkSync(join(here, "node_modules"), join(folder, "node_modules"));
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  copyFileSync(join(here, "generated.ts"), join(folder, "generated.ts"));
  // Without the option whatever has a default would have to be given.
  const optional = ["--default-non-nullable", "false"];
  run("openapi-typescript", ...optional, join(here, "../../../openapi/openapi.json"), "--output", join(folder, "schema.ts"));
  run("tsc", "--strict", "--module", "nodenext", "--target", "es2022", "--types", "node", "--outDir", folder, join(folder, "generated.ts"));
  script = await import(join(folder, "generated.js"));
  server = await start();
});

after(() => server?.stop());

test("a job from the upload to the download", { timeout: 120_000 }, async () => {
  const seen = await script.run(server.url, MODEL, reviews(24));
  assert.deepEqual({ ...seen, bytes: 0, listed: 0 }, { planned: 24, rank: 4, status: "succeeded", bytes: 0, listed: 0, error: "id" });
  assert.ok(seen.bytes > 1000 && seen.listed.length === 1, JSON.stringify(seen));
});
