"""The kit of tiny models and inputs, and one server on it, for all cases."""

import csv
import io
import json
import os
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ENDED = ("succeeded", "failed", "cancelled")


class Server:
    """Talks to the API as any client would; answers are the status and what the body says."""

    def __init__(self, address, kit):
        self.address, self.kit = address, kit

    def request(self, method, path, body=None, headers=None):
        request = urllib.request.Request(self.address + path, body, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def post(self, path, body):
        status, answer = self.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return status, json.loads(answer)

    def upload(self, name):
        content, boundary = (self.kit / "inputs" / name).read_bytes(), "b7c0ffee"
        parts = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        )
        body = parts.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        status, answer = self.request("POST", "/v1/files", body, headers)
        assert status == 200, answer
        return json.loads(answer)["id"]

    def create(self, model, name, dry=False, valid=None, **body):
        body |= {"model": model, "training_file": self.upload(name)}
        if valid:
            body["validation_file"] = self.upload(valid)
        return self.post("/v1/fine_tuning/jobs" + ("?dry_run=true" if dry else ""), body)

    def plan(self, model, name, **body):
        status, plan = self.create(model, name, dry=True, **body)
        assert status == 200, plan
        return plan

    def refused(self, model, name, **body):
        """The message and the param of a dry run that is refused."""
        status, answer = self.create(model, name, dry=True, **body)
        assert status == 400, answer
        return answer["error"]["message"], answer["error"]["param"]

    def wait(self, id, *states):
        for _ in range(3000):
            job = json.loads(self.request("GET", f"/v1/fine_tuning/jobs/{id}")[1])
            if job["status"] in (states or ENDED):
                return job
            time.sleep(0.02)
        raise AssertionError(f"{id} is still {job['status']}")

    def job(self, model, name, **body):
        status, job = self.create(model, name, **body)
        assert status == 200, job
        job = self.wait(job["id"])
        assert job["status"] == "succeeded", job["error"]
        return job["id"]

    def artifact(self, job, path):
        status, content = self.request("GET", f"/v1/fine_tuning/jobs/{job}/artifacts/{path}")
        assert status == 200, content
        return content

    def table(self, job, path):
        return list(csv.DictReader(io.StringIO(self.artifact(job, path).decode())))

    def valid_losses(self, job):
        return [float(row["valid_loss"]) for row in self.table(job, "metrics.csv") if row["valid_loss"]]

    def base_loss(self, model, name="c16a.jsonl", valid="c33-valid.jsonl", **training):
        """What the base itself makes of the validation rows: B of LoRA is still zero."""
        job = self.job(model, name, valid=valid, training={"max_steps": 1} | training)
        return self.valid_losses(job)[0]

    def adapter(self, job):
        """The names and all numbers of an adapter's tensors."""
        content = self.artifact(job, "adapter/adapter_model.safetensors")
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + length])
        numbers = content[8 + length :]
        names = [name for name in header if name != "__metadata__"]
        return names, struct.unpack(f"<{len(numbers) // 4}f", numbers)


@pytest.fixture(scope="session")
def kit(tmp_path_factory):
    target = tmp_path_factory.mktemp("kit")
    subprocess.run([sys.executable, HERE / "kit.py", target], check=True, stdout=subprocess.DEVNULL)
    return target


@pytest.fixture(scope="session")
def server(kit, tmp_path_factory):
    binary = os.environ.get("TAPER_BIN", HERE / "../../target/release/taper")
    data = tmp_path_factory.mktemp("data")
    command = [binary, "serve", "--data-dir", data, "--models-dir", kit / "models", "--listen", "127.0.0.1:0"]
    with open(data / "server.log", "w") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        address = process.stdout.readline().removeprefix("listening on ").strip()
        yield Server(address, kit)
        process.terminate()
