"""Trains through the API of a running server and leaves what a user would download.

    python drive.py BASE_URL TRAIN.jsonl VALIDATION.jsonl OUT

OUT/<method>.zip is each job's adapter.zip, beside it the predictions OUT/<method>.jsonl.
"""

import json
import sys
import time
import urllib.request
from pathlib import Path

MODEL = "all-MiniLM-L6-v2"
TRAINING = {"num_train_epochs": 1, "per_device_train_batch_size": 16, "max_length": 64}
METHODS = {
    "lora": ({"type": "lora", "r": 8, "lora_alpha": 16}, {"learning_rate": 1e-3}),
    "full": ({"type": "full"}, {"learning_rate": 5e-5}),
    "layerwise": ({"type": "layerwise", "freeze_below": 2}, {"learning_rate": 1e-4}),
    "prompt_tuning": ({"type": "prompt_tuning", "prompt_tuning_init": "SAMPLE_VOCAB"}, {"learning_rate": 1e-2}),
}
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url: str, body: bytes | None = None, content_type: str = "application/json") -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": content_type} if body else {})
    with OPENER.open(request) as answer:
        return answer.read()


def upload(base: str, path: Path) -> str:
    line, boundary = "\r\n", "a-line-that-is-in-no-review"
    head = (
        f'--{boundary}{line}Content-Disposition: form-data; name="purpose"{line}{line}fine-tune{line}'
        f'--{boundary}{line}Content-Disposition: form-data; name="file"; filename="{path.name}"{line}{line}'
    )
    body = head.encode() + path.read_bytes() + f"{line}--{boundary}--{line}".encode()
    return json.loads(ask(f"{base}/files", body, f"multipart/form-data; boundary={boundary}"))["id"]


def train(base: str, files: dict[str, str], method: str, out: Path) -> None:
    tuning, training = METHODS[method]
    body = {"model": MODEL, **files, "tuning": tuning, "training": TRAINING | training}
    job = json.loads(ask(f"{base}/fine_tuning/jobs", json.dumps(body).encode()))
    url = f"{base}/fine_tuning/jobs/{job['id']}"
    while job["status"] not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.5)
        job = json.loads(ask(url))
    assert job["status"] == "succeeded", job["error"]
    print(f"{method}: {job['metrics']}")
    (out / f"{method}.zip").write_bytes(ask(f"{url}/adapter.zip"))
    (out / f"{method}.jsonl").write_bytes(ask(f"{url}/artifacts/eval_predictions.jsonl"))


def main(base: str, training: Path, validation: Path, out: Path) -> None:
    files = {"training_file": upload(base, training), "validation_file": upload(base, validation)}
    for method in METHODS:
        train(base, files, method, out)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
