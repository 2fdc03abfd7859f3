"""Holds answers against OpenAI's published schema, in the form of the official client's own types, which are generated from it.

The client itself lets a missing field pass (it builds its objects unchecked), so each answer is validated here once more.
"""

import json
import re

from openai.types import FileDeleted, FileObject, Model, ModelDeleted, Upload
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from openai.types.uploads import UploadPart

JOB = "/v1/fine_tuning/jobs/[^/]+"
ROUTES = [
    ("POST", "/v1/files", FileObject, False),
    ("GET", "/v1/files", FileObject, True),
    ("GET", "/v1/files/[^/]+", FileObject, False),
    ("DELETE", "/v1/files/[^/]+", FileDeleted, False),
    ("POST", "/v1/uploads", Upload, False),
    ("POST", "/v1/uploads/[^/]+/(complete|cancel)", Upload, False),
    ("POST", "/v1/uploads/[^/]+/parts", UploadPart, False),
    ("POST", "/v1/fine_tuning/jobs", FineTuningJob, False),
    ("GET", "/v1/fine_tuning/jobs", FineTuningJob, True),
    ("GET", JOB, FineTuningJob, False),
    ("POST", f"{JOB}/(cancel|pause|resume)", FineTuningJob, False),
    ("GET", f"{JOB}/events", FineTuningJobEvent, True),
    ("GET", f"{JOB}/checkpoints", FineTuningJobCheckpoint, True),
    ("GET", "/v1/models", Model, True),
    ("GET", "/v1/models/.+", Model, False),
    ("DELETE", "/v1/models/.+", ModelDeleted, False),
]
checked = set()


def check(response):
    """Validates an answer; called by the client's HTTP library for each."""
    request = response.request
    assert response.headers["x-request-id"].startswith("req_"), request.url
    if response.headers["content-type"] != "application/json":
        return
    response.read()
    if response.status_code != 200:
        error = response.json()["error"]
        assert list(error) == ["message", "type", "param", "code"] and error["message"], error
        return
    found = [route for route in ROUTES if route[0] == request.method and re.fullmatch(route[1], request.url.path)]
    for _, path, shape, is_list in found[:1]:
        validate(response.json(), shape, is_list)
        checked.add((request.method, path))


def validate(body, shape, is_list):
    if not is_list:
        shape.model_validate_json(json.dumps(body), strict=True)
        return
    assert body["object"] == "list" and isinstance(body["has_more"], bool)
    assert {"first_id", "last_id"} <= set(body)
    for item in body["data"]:
        shape.model_validate_json(json.dumps(item), strict=True)
