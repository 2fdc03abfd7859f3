"""The server under test: the real binary, with a tiny model, on a free port, and somebody who listens to its webhooks."""

import base64
import os
import subprocess
from pathlib import Path

import httpx2
import pytest
from openai import OpenAI

import published
import tiny_bert
from receiver import Receiver

BINARY = os.environ.get("TAPER_BIN") or Path(__file__).parents[2] / "target" / "release" / "taper"
MODEL = "acme/tiny-bert"
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class Server:
    """A server that can be ended and started again over the same folder."""

    def __init__(self, folder, *options, **environment):
        self.folder, self.options = folder, options
        self.environment = {**os.environ, **environment}
        tiny_bert.write(folder / "models" / MODEL)
        self.start()

    def keys(self, action, *words):
        """What `taper keys` prints."""
        command = [BINARY, "keys", action, "--data-dir", self.folder / "data", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def start(self):
        folders = ["--data-dir", self.folder / "data", "--models-dir", self.folder / "models"]
        command = [BINARY, "serve", *folders, "--listen", "127.0.0.1:0", *self.options]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment)
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://"), self.log()
        self.url = line.removeprefix("listening on ").strip()

    def log(self):
        return (self.folder / "log").read_text()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=30) == 0, self.log()

    def kill(self):
        self.process.kill()
        self.process.wait()


def connect(url, api_key="unused", **options):
    """The official client; every answer that it gets is held against the schema that OpenAI publishes."""
    checking = httpx2.Client(event_hooks={"response": [check]}, timeout=60)
    options = {"max_retries": 0, **options}
    return OpenAI(base_url=f"{url}/v1", api_key=api_key, http_client=checking, **options)


def check(response):
    """Validates an answer; called by the client's HTTP library for each, with its body still to come."""
    assert response.headers["x-request-id"].startswith("req_"), response.url
    if response.headers["content-type"] == "text/event-stream":
        return
    path = response.request.url.raw_path.decode().split("?")[0]
    published.check(response.request.method, path, response.status_code, response.headers["content-type"], response.read())


@pytest.fixture(scope="session")
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def server(tmp_path_factory, receiver):
    folder = tmp_path_factory.mktemp("taper")
    server = Server(folder, "--webhook", receiver.url, TAPER_WEBHOOK_SECRET=SECRET)
    yield server
    server.stop()


@pytest.fixture
def client(server):
    with connect(server.url) as client:
        yield client


@pytest.fixture
def upload(client):
    def upload(rows, name="train.jsonl"):
        file = client.files.create(file=(name, tiny_bert.jsonl(rows)), purpose="fine-tune")
        return client.files.wait_for_processing(file.id, poll_interval=0.1)

    return upload
