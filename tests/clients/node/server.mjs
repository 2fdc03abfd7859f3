// The server under test: the real binary over a fresh folder, with the tiny model that the Python tests write.

import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, openSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export const MODEL = "acme/tiny-bert";

const clients = join(import.meta.dirname, "..");
const binary = process.env.TAPER_BIN ?? join(clients, "..", "..", "target", "release", "taper");

/** Runs a line of Python beside tiny_bert.py and gives back what it prints. */
function python(line, ...args) {
  const ran = spawnSync("python3", ["-c", `import sys, tiny_bert; ${line}`, ...args], { cwd: clients, encoding: "utf8" });
  if (ran.status !== 0) throw new Error(ran.stderr);
  return ran.stdout;
}

export function reviews(count) {
  return python("sys.stdout.write(tiny_bert.jsonl(tiny_bert.reviews(int(sys.argv[1]))).decode())", String(count));
}

export async function start(options = [], environment = {}) {
  const folder = mkdtempSync(join(tmpdir(), "taper-"));
  python("from pathlib import Path; tiny_bert.write(Path(sys.argv[1]))", join(folder, "models", MODEL));
  const folders = ["--data-dir", join(folder, "data"), "--models-dir", join(folder, "models")];
  const server = spawn(binary, ["serve", ...folders, "--listen", "127.0.0.1:0", ...options], {
    stdio: ["ignore", "pipe", openSync(join(folder, "log"), "w")],
    env: { ...process.env, ...environment },
  });
  const [line] = await new Promise((resolve, reject) => {
    createInterface({ input: server.stdout }).once("line", (line) => resolve([line]));
    server.once("exit", () => reject(new Error(`the server has ended; see ${folder}/log`)));
  });
  return { url: line.replace("listening on ", ""), stop: () => server.kill("SIGTERM") };
}
