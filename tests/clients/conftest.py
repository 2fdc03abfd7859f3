"""The server under test: the real binary, with a tiny model, on a free port."""

import os
import subprocess
from pathlib import Path

import pytest
from openai import OpenAI

import tiny_bert

BINARY = os.environ.get("TAPER_BIN") or Path(__file__).parents[2] / "target" / "release" / "taper"
MODEL = "acme/tiny-bert"


@pytest.fixture(scope="session")
def base_url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("taper")
    tiny_bert.write(folder / "models" / MODEL)
    command = [BINARY, "serve", "--data-dir", folder / "data", "--models-dir", folder / "models", "--listen", "127.0.0.1:0"]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    line = server.stdout.readline()
    assert line.startswith("listening on http://"), (folder / "log").read_text()
    yield line.removeprefix("listening on ").strip() + "/v1"
    server.terminate()
    assert server.wait(timeout=30) == 0, (folder / "log").read_text()


@pytest.fixture
def client(base_url):
    with OpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def upload(client):
    def upload(rows, name="train.jsonl"):
        file = client.files.create(file=(name, tiny_bert.jsonl(rows)), purpose="fine-tune")
        return client.files.wait_for_processing(file.id, poll_interval=0.1)

    return upload
