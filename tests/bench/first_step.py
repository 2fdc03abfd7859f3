"""How soon a side ends its first training step; prints {"seconds": …}.

    first_step.py server SPEC.json TAPER THREADS MODEL_DIR TRAIN.jsonl     # from POST to the first step's event, of a server that runs
    first_step.py process COMMAND…      # from the start of a process until it says "step 1/" or "first step" on stderr
"""

import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# A proxy of the environment must not stand between.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
SAYS_SO = re.compile(r"^(step 1/|first step)")


def of_process(command: list[str]) -> float:
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = []
    for line in process.stderr:
        said.append(line)
        if SAYS_SO.match(line):
            seconds = time.perf_counter() - began
            process.kill()
            process.wait()
            return seconds
    raise SystemExit(f"{' '.join(command)} ended before its first step:\n{''.join(said)}")


def of_server(spec: Path, taper: str, threads: str, model: Path, data: Path) -> float:
    with tempfile.TemporaryDirectory(prefix="taper-bench-") as work:
        flags = ["--data-dir", work, "--models-dir", str(model.parent), "--listen", "127.0.0.1:0", "--threads", threads]
        server = subprocess.Popen([taper, "serve", *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            return of_job(server.stdout.readline().removeprefix("listening on ").strip() + "/v1", spec, model, data)
        finally:
            server.terminate()
            server.wait()


def of_job(base: str, spec: Path, model: Path, data: Path) -> float:
    body = json.loads(spec.read_text()) | {"model": model.name, "training_file": upload(base, data)}
    began = time.perf_counter()
    job = json.load(ask(f"{base}/fine_tuning/jobs", json.dumps(body).encode(), "application/json"))
    for event in events(f"{base}/fine_tuning/jobs/{job['id']}/events/stream"):
        if (event.get("data") or {}).get("step"):
            return time.perf_counter() - began
        if event.get("level") == "error":
            raise SystemExit(f"the job has failed: {event['message']}")
    raise SystemExit("the events have ended before the first step")


def ask(url: str, body: bytes | None = None, content_type: str = "") -> Any:
    return OPENER.open(urllib.request.Request(url, body, {"Content-Type": content_type} if body else {}))


def upload(base: str, path: Path) -> str:
    line, boundary = "\r\n", "a-line-that-is-in-no-row"
    head = (
        f'--{boundary}{line}Content-Disposition: form-data; name="purpose"{line}{line}fine-tune{line}'
        f'--{boundary}{line}Content-Disposition: form-data; name="file"; filename="{path.name}"{line}{line}'
    )
    body = head.encode() + path.read_bytes() + f"{line}--{boundary}--{line}".encode()
    return json.load(ask(f"{base}/files", body, f"multipart/form-data; boundary={boundary}"))["id"]


def events(url: str) -> Iterator[dict[str, Any]]:
    for line in ask(url):
        if line.startswith(b"data: {"):
            yield json.loads(line.removeprefix(b"data: "))


def main(kind: str, *rest: str) -> None:
    if kind == "server":
        spec, taper, threads, model, data = rest
        seconds = of_server(Path(spec), taper, threads, Path(model), Path(data))
    else:
        seconds = of_process(list(rest))
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
