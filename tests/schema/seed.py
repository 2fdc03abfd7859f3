"""Leaves a file and a job that has succeeded in a server, so that links from lists lead to something."""

import json
import sys
import time
import urllib.request

import tiny_bert

url = sys.argv[1]


def call(path, body, kind):
    request = urllib.request.Request(url + path, body, {"Content-Type": kind} if body else {})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


rows = tiny_bert.jsonl(tiny_bert.reviews(20)).decode()
part = "--X\r\nContent-Disposition: form-data; name="
form = f'{part}"purpose"\r\n\r\nfine-tune\r\n{part}"file"; filename="a.jsonl"\r\n\r\n{rows}\r\n--X--\r\n'
file = call("/v1/files", form.encode(), "multipart/form-data; boundary=X")
body = {"model": "acme/tiny-bert", "training_file": file["id"], "training": {"max_steps": 2}}
job = call("/v1/fine_tuning/jobs", json.dumps(body).encode(), "application/json")
while job["status"] != "succeeded":
    assert job["status"] in ("validating_files", "queued", "running"), job
    time.sleep(0.1)
    job = call(f"/v1/fine_tuning/jobs/{job['id']}", None, "")
