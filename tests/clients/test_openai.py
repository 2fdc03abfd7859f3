"""OpenAI's official Python client, unmodified, against the real server."""

import csv
import hashlib
import io
import time
import zipfile

import openai
import pytest

import tiny_bert
from conftest import MODEL, connect

ENDED = {"succeeded", "failed", "cancelled"}
LORA = {"type": "lora", "r": 4, "lora_alpha": 8}
TRAINING = {"num_train_epochs": 20, "learning_rate": 2e-2}  # 6 steps an epoch of 90 rows


def create(client, file, *, training=TRAINING, tuning=LORA, **rest):
    return client.fine_tuning.jobs.create(
        model=MODEL, training_file=file.id, extra_body={"tuning": tuning, "training": training}, **rest
    )


def wait(client, job, states=ENDED, seconds=120):
    end = time.monotonic() + seconds
    while (job := client.fine_tuning.jobs.retrieve(job.id)).status not in states:
        assert job.status not in ENDED and time.monotonic() < end, job
        time.sleep(0.1)
    return job


@pytest.fixture(scope="module")
def finished(server):
    """A job that has succeeded, shared by the tests that only read."""
    with connect(server.url) as client:
        rows = tiny_bert.reviews(120)
        train = client.files.create(file=("train.jsonl", tiny_bert.jsonl(rows[:90])), purpose="fine-tune")
        valid = client.files.create(file=("valid.jsonl", tiny_bert.jsonl(rows[90:])), purpose="fine-tune")
        job = create(client, train, validation_file=valid.id, suffix="films", metadata={"team": "a"}, seed=3)
        job = wait(client, job)
        assert job.status == "succeeded", job
        return job


def test_files(client, upload):
    rows = tiny_bert.reviews(10)
    file = upload(rows)
    assert file.object == "file" and file.status == "processed" and file.purpose == "fine-tune"
    assert file.bytes == len(tiny_bert.jsonl(rows)) and file.filename == "train.jsonl"
    assert client.files.retrieve(file.id).id == file.id
    assert client.files.content(file.id).content == tiny_bert.jsonl(rows)
    newest = client.files.list(purpose="fine-tune", limit=1)
    assert newest.data[0].id == file.id
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_a_finished_job(client, finished):
    assert finished.object == "fine_tuning.job" and finished.model == MODEL
    assert finished.fine_tuned_model.startswith(f"ft:{MODEL}:default:films:")
    assert finished.error is None and finished.organization_id and finished.seed == 3
    assert finished.finished_at >= finished.created_at and finished.trained_tokens > 0
    assert finished.hyperparameters.n_epochs == 20 and finished.hyperparameters.batch_size == 16
    assert finished.metadata == {"team": "a"}
    extra = finished.model_extra
    assert extra["tuning"]["r"] == 4 and extra["tuning"]["target_modules"] == ["query", "value"]
    assert extra["training"]["learning_rate"] == 2e-2 and extra["attempt"] == 1
    assert extra["metrics"]["valid_accuracy"] > 0.7
    assert extra["plan"]["training_rows"] == 90 and extra["plan"]["classes"] == ["bad", "good"]


def test_events_newest_first_and_in_pages(client, finished):
    events = list(client.fine_tuning.jobs.list_events(finished.id, limit=3))
    assert len(events) > 6 and len({event.id for event in events}) == len(events)
    times = [event.created_at for event in events]
    assert times == sorted(times, reverse=True)
    assert events[0].data["status"] == "succeeded"
    losses = [event.data["train_loss"] for event in events if event.type == "metrics" and "train_loss" in event.data]
    assert len(losses) >= 6 and losses[0] < losses[-1]


def open_stream(client, job, last=0):
    options = {"headers": {"Last-Event-ID": str(last)}} if last else {}
    path = f"/fine_tuning/jobs/{job.id}/events/stream"
    return client.get(path, cast_to=object, options=options, stream=True, stream_cls=openai.Stream[object])


def oldest_first(client, job):
    return [event.id for event in client.fine_tuning.jobs.list_events(job.id, limit=100)][::-1]


def test_the_event_stream(client, finished):
    assert [event["id"] for event in open_stream(client, finished)] == oldest_first(client, finished)


def test_a_stream_that_is_cut_shows_each_event_exactly_once(client, upload):
    job = create(client, upload(tiny_bert.reviews(64)))
    seen, cuts, ended = [], 0, False
    while not ended:
        with open_stream(client, job, last=len(seen)) as stream:
            for count, event in enumerate(stream, start=1):
                seen.append(event["id"])
                if count == 3 and (event["data"] or {}).get("status") not in ENDED:
                    cuts += 1
                    break
            else:
                ended = True
    assert cuts >= 2 and seen == oldest_first(client, job)


def test_lists_page_by_themselves(client, upload):
    file = upload(tiny_bert.reviews(8))
    made = [create(client, file, training={"max_steps": 1}, metadata={"batch": "pages"}).id for _ in range(5)]
    listed = [job.id for job in client.fine_tuning.jobs.list(limit=2, metadata={"batch": "pages"})]
    assert listed == made[::-1]
    for job in made:
        wait(client, client.fine_tuning.jobs.retrieve(job))


def test_checkpoints(client, finished):
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(finished.id, limit=1))
    steps = [checkpoint.step_number for checkpoint in checkpoints]
    assert steps and steps == sorted(steps, reverse=True) and steps[0] == 120
    newest = checkpoints[0]
    assert newest.object == "fine_tuning.job.checkpoint" and newest.fine_tuning_job_id == finished.id
    assert newest.fine_tuned_model_checkpoint == f"{finished.fine_tuned_model}:ckpt-step-120"
    assert newest.metrics.valid_loss > 0


def test_the_result_file_is_a_csv(client, finished):
    text = client.files.content(finished.result_files[0]).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {"step", "train_loss", "valid_loss"} <= set(rows[0])
    assert int(rows[-1]["step"]) == 120
    assert client.files.retrieve(finished.result_files[0]).purpose == "fine-tune-results"


def test_the_adapter_is_what_the_list_says(client, finished):
    artifacts = client.get(f"/fine_tuning/jobs/{finished.id}/artifacts", cast_to=object)["data"]
    answer = client.get(f"/fine_tuning/jobs/{finished.id}/adapter.zip", cast_to=openai.HttpxBinaryResponseContent)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as adapter:
        got = {f"adapter/{name}": hashlib.sha256(adapter.read(name)).hexdigest() for name in adapter.namelist()}
    want = {file["path"]: file["sha256"] for file in artifacts if file["path"].startswith("adapter/")}
    assert got == want
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors", "adapter/tokenizer.json"} <= set(got)


def test_cancel(client, upload):
    job = create(client, upload(tiny_bert.reviews(200)), training={"num_train_epochs": 10000})
    wait(client, job, states={"running"})
    began = time.monotonic()
    job = client.fine_tuning.jobs.cancel(job.id)
    assert job.status == "cancelled" and time.monotonic() - began < 2.5
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


def test_pause_and_resume(client, upload):
    job = create(client, upload(tiny_bert.reviews(200)), training={"num_train_epochs": 10000})
    wait(client, job, states={"running"})
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    wait(client, job, states={"running"})
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


def test_models(client, finished):
    ids = {model.id for model in client.models.list()}
    assert {MODEL, finished.fine_tuned_model} <= ids
    for name in [MODEL, finished.fine_tuned_model]:
        assert "/" in name
        model = client.models.retrieve(name)
        assert model.id == name and model.object == "model" and model.created > 0


def test_errors_arrive_as_the_client_s_exceptions(client, upload, finished):
    file = upload(tiny_bert.reviews(8))
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, file, tuning={"type": "lora", "r": 0})
    assert caught.value.param == "tuning.r" and caught.value.code == "invalid_value"
    assert caught.value.request_id and caught.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(model=MODEL, training_file=file.id, extra_body={"trainning": {}})
    assert caught.value.param == "trainning" and "did you mean 'training'" in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(model=MODEL, training_file="file-none")
    assert caught.value.param == "training_file"
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.cancel(finished.id)
    assert "succeeded" in caught.value.message
    with pytest.raises(openai.NotFoundError) as caught:
        client.fine_tuning.jobs.retrieve("ftjob-none")
    assert caught.value.request_id
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody/nothing")
