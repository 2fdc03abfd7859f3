"""The rest of OpenAI's contract through the official Python client: uploads, retries, pages, models, webhooks."""

import hashlib
import json
import time

import openai
import pytest
import trustme

import published
import tiny_bert
from conftest import MODEL, SECRET, Server, connect
from cutting import CuttingProxy
from receiver import Receiver
from test_openai import LORA, create, wait

QUICK = {"max_steps": 1}


def test_files_that_expire(client):
    rows = tiny_bert.jsonl(tiny_bert.reviews(4))
    after = {"anchor": "created_at", "seconds": 3600}
    file = client.files.create(file=("a.jsonl", rows), purpose="fine-tune", expires_after=after)
    assert file.expires_at == file.created_at + 3600
    assert client.files.retrieve(file.id).expires_at == file.expires_at
    part = client.files.with_raw_response.content(file.id, extra_headers={"Range": "bytes=2-9"})
    assert part.status_code == 206 and part.content == rows[2:10]
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=("a.jsonl", rows), purpose="fine-tune", expires_after={**after, "seconds": 60})
    assert caught.value.param == "expires_after[seconds]"


def test_files_page_by_themselves(client):
    made = [client.files.create(file=("v.json", b"{}"), purpose="user_data").id for _ in range(7)]
    assert [file.id for file in client.files.list(purpose="user_data", limit=2)] == made[::-1]
    assert [file.id for file in client.files.list(purpose="user_data", limit=3, order="asc")] == made
    for file in made:
        client.files.delete(file)


def test_an_upload_in_parts(client):
    rows = tiny_bert.jsonl(tiny_bert.reviews(50))
    upload = client.uploads.create(bytes=len(rows), filename="rows.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    assert upload.status == "pending" and upload.expires_at > upload.created_at
    middle = len(rows) // 2
    last = client.uploads.parts.create(upload.id, data=rows[middle:])
    first = client.uploads.parts.create(upload.id, data=rows[:middle])
    assert first.upload_id == upload.id and first.object == "upload.part"
    md5 = hashlib.md5(rows).hexdigest()
    with pytest.raises(openai.BadRequestError) as caught:
        client.uploads.complete(upload.id, part_ids=[last.id, first.id], md5=md5)
    assert caught.value.param == "md5"
    done = client.uploads.complete(upload.id, part_ids=[first.id, last.id], md5=md5)
    assert done.status == "completed" and client.files.content(done.file.id).content == rows
    job = wait(client, create(client, done.file, training=QUICK))
    assert job.status == "succeeded", job


def test_the_client_s_own_way_to_upload_in_parts(client):
    rows = tiny_bert.jsonl(tiny_bert.reviews(40))
    done = client.uploads.upload_file_chunked(
        file=rows, filename="rows.jsonl", bytes=len(rows), mime_type="text/jsonl", purpose="fine-tune", part_size=500
    )
    assert done.status == "completed" and client.files.content(done.file.id).content == rows


def test_a_cancelled_upload(client):
    upload = client.uploads.create(bytes=3, filename="a", mime_type="text/plain", purpose="fine-tune")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        client.uploads.parts.create(upload.id, data=b"abc")


def test_every_field_of_openai_s_body(client, upload):
    file = upload(tiny_bert.reviews(20))
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=file.id,
        validation_file=upload(tiny_bert.reviews(10)).id,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": "auto"}}},
        hyperparameters={"n_epochs": 9},
        integrations=[{"type": "wandb", "wandb": {"project": "p", "tags": ["a"]}}],
        metadata={"purpose": "contract"},
        suffix="all fields",
        seed=7,
    )
    assert job.hyperparameters.n_epochs == 1 and job.hyperparameters.batch_size == 16
    assert job.method.type == "supervised" and job.seed == 7 and job.user_provided_suffix == "all-fields"
    job = wait(client, job)
    assert job.status == "succeeded" and job.fine_tuned_model.startswith(f"ft:{MODEL}:default:all-fields:")
    warnings = [event.message for event in client.fine_tuning.jobs.list_events(job.id) if event.level == "warn"]
    assert any("integrations" in message for message in warnings), warnings
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(model=MODEL, training_file=file.id, method={"type": "dpo", "dpo": {}})
    assert caught.value.param == "method.type"


def test_a_method_as_it_was_answered(client, upload):
    """The client writes fields that are not set as null."""
    job = create(client, upload(tiny_bert.reviews(8)), training=QUICK)
    again = client.fine_tuning.jobs.create(
        model=MODEL, training_file=job.training_file, method=job.method.model_dump(), extra_body={"training": QUICK}
    )
    assert again.method == job.method
    for job in [job, again]:
        wait(client, job)


def test_jobs_are_found_by_their_metadata(client, upload):
    file = upload(tiny_bert.reviews(8))
    red = create(client, file, training=QUICK, metadata={"colour": "red", "n": "1"})
    blue = create(client, file, training=QUICK, metadata={"colour": "blue", "n": "1"})
    plain = create(client, file, training=QUICK)
    listed = [job.id for job in client.fine_tuning.jobs.list(metadata={"n": "1"})]
    assert listed == [blue.id, red.id]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"colour": "red", "n": "1"})] == [red.id]
    without = [job.id for job in client.fine_tuning.jobs.list(extra_query={"metadata": "null"})]
    assert plain.id in without and red.id not in without


def test_sixty_jobs_page_by_themselves(client, upload):
    file = upload(tiny_bert.reviews(8))
    made = [create(client, file, training=QUICK, metadata={"batch": "sixty"}).id for _ in range(60)]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"batch": "sixty"})] == made[::-1]
    for job in made:
        wait(client, client.fine_tuning.jobs.retrieve(job))


@pytest.mark.parametrize("key", [None, "a-key-of-the-client"])
def test_a_lost_answer_makes_one_job(client, server, upload, key):
    file = upload(tiny_bert.reviews(8))
    headers = {"Idempotency-Key": key} if key else {}
    with CuttingProxy(server.url, "POST /v1/fine_tuning/jobs", cuts=2) as proxy:
        with connect(proxy.url, max_retries=2) as through:
            job = create(through, file, training=QUICK, metadata={"lost": str(key)}, extra_headers=headers)
    assert proxy.lost == 2
    assert [it.id for it in client.fine_tuning.jobs.list(metadata={"lost": str(key)})] == [job.id]


def test_lost_answers_make_one_file_and_one_upload(client, server):
    rows = tiny_bert.jsonl(tiny_bert.reviews(9))
    with CuttingProxy(server.url, "POST /v1/", cuts=1) as proxy, connect(proxy.url, max_retries=2) as through:
        file = through.files.create(file=("lost.jsonl", rows), purpose="vision")
        assert [it.id for it in client.files.list(purpose="vision")] == [file.id]
        proxy.cuts = 1
        upload = through.uploads.create(bytes=len(rows), filename="a", mime_type="text/plain", purpose="fine-tune")
        proxy.cuts = 1
        part = through.uploads.parts.create(upload.id, data=rows)
        proxy.cuts = 1
        done = through.uploads.complete(upload.id, part_ids=[part.id])
        assert proxy.lost == 4 and client.files.content(done.file.id).content == rows


def test_a_key_outlives_the_server(tmp_path):
    server = Server(tmp_path)
    with connect(server.url) as client:
        file = client.files.create(file=("a.jsonl", tiny_bert.jsonl(tiny_bert.reviews(8))), purpose="fine-tune")
        job = create(client, file, training=QUICK, extra_headers={"Idempotency-Key": "k"})
    server.kill()
    server.start()
    with connect(server.url) as client:
        again = create(client, file, training=QUICK, extra_headers={"Idempotency-Key": "k"})
        assert again.id == job.id
        with pytest.raises(openai.BadRequestError) as caught:
            create(client, file, training=QUICK, suffix="other", extra_headers={"Idempotency-Key": "k"})
        assert caught.value.code == "idempotency_key_reused"
        wait(client, job)
    server.stop()


def last_loss(client, job):
    return wait(client, job).model_extra["metrics"]["train_loss"]


@pytest.mark.parametrize("tuning", [LORA, {"type": "full"}])
def test_a_job_that_goes_on_from_another(client, upload, tuning):
    file = upload(tiny_bert.reviews(90))
    long = {"num_train_epochs": 20, "learning_rate": 2e-2 if tuning is LORA else 2e-3}
    first = create(client, file, tuning=tuning, training=long, suffix="first")
    fresh = create(client, file, tuning=tuning, training=QUICK)
    assert wait(client, first).status == "succeeded"
    first = client.fine_tuning.jobs.retrieve(first.id)
    newest = client.fine_tuning.jobs.checkpoints.list(first.id).data[0]
    assert client.models.retrieve(newest.fine_tuned_model_checkpoint).id == newest.fine_tuned_model_checkpoint
    fresh = last_loss(client, fresh)
    for name in [first.fine_tuned_model, newest.fine_tuned_model_checkpoint]:
        body = {"tuning": tuning, "training": QUICK}
        job = client.fine_tuning.jobs.create(model=name, training_file=file.id, extra_body=body)
        assert job.model == name
        # The first step's loss is that of the weights it began with.
        loss = last_loss(client, job)
        assert loss < 0.6 * fresh, (name, loss, fresh)
        job = client.fine_tuning.jobs.retrieve(job.id)
        assert job.fine_tuned_model.startswith(f"ft:{MODEL}:default::")
    if tuning is LORA:
        body = {"tuning": {**LORA, "r": 2}, "training": QUICK}
        with pytest.raises(openai.BadRequestError) as caught:
            client.fine_tuning.jobs.create(model=first.fine_tuned_model, training_file=file.id, extra_body=body)
        assert caught.value.param == "tuning.r"


def test_a_deleted_model(client, upload):
    file = upload(tiny_bert.reviews(60))
    made = wait(client, create(client, file, training=QUICK)).fine_tuned_model
    user = create(client, file, training={"num_train_epochs": 10000})
    client.fine_tuning.jobs.cancel(user.id)
    body = {"tuning": LORA, "training": {"num_train_epochs": 10000}}
    user = client.fine_tuning.jobs.create(model=made, training_file=file.id, extra_body=body)
    with pytest.raises(openai.BadRequestError) as caught:
        client.models.delete(made)
    assert user.id in caught.value.message and caught.value.code == "model_in_use"
    client.fine_tuning.jobs.cancel(user.id)
    assert client.models.delete(made).deleted
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(made)
    assert made not in {model.id for model in client.models.list()}


def until(find, seen, seconds=30):
    """Waits until `find` has found something; `seen` tells what there was instead."""
    end = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < end, seen()
        time.sleep(0.1)
    return found


def told(receiver, job):
    return until(lambda: [it for it in receiver.taken if json.loads(it[1])["data"]["id"] == job.id], lambda: receiver.seen)


def break_model(server):
    """A model of which every job fails: the last of its weights are no numbers."""
    folder = server.folder / "models" / "acme" / "broken"
    tiny_bert.write(folder)
    with open(folder / "model.safetensors", "r+b") as file:
        file.seek(-4096, 2)
        file.write(b"\xff" * 4096)
    return "acme/broken"


def test_webhooks(client, upload, server, receiver):
    file = upload(tiny_bert.reviews(30))
    done = create(client, file, training=QUICK)
    failed = client.fine_tuning.jobs.create(model=break_model(server), training_file=file.id)
    cancelled = create(client, file, training={"num_train_epochs": 10000})
    client.fine_tuning.jobs.cancel(cancelled.id)
    for job, end in [(done, "succeeded"), (failed, "failed"), (cancelled, "cancelled")]:
        [(headers, body)] = told(receiver, job)
        published.check_event(body)
        event = client.webhooks.unwrap(body, headers, secret=SECRET)
        assert event.type == f"fine_tuning.job.{end}" and event.data.id == job.id
        assert event.object == "event" and event.id == headers["webhook-id"]
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.verify_signature(body + " ", headers, secret=SECRET)


@pytest.mark.parametrize("first", [302, 503])
def test_webhooks_outlive_the_server_and_follow_no_redirect(tmp_path, first):
    with Receiver() as receiver:
        receiver.answers[:] = [first]
        server = Server(tmp_path, "--webhook", receiver.url, TAPER_WEBHOOK_SECRET=SECRET)
        with connect(server.url) as client:
            file = client.files.create(file=("a.jsonl", tiny_bert.jsonl(tiny_bert.reviews(8))), purpose="fine-tune")
            job = wait(client, create(client, file, training=QUICK))
            until(lambda: not receiver.answers, lambda: receiver.seen)
            server.kill()
            server.start()
            [(headers, body)] = told(receiver, job)
            client.webhooks.unwrap(body, headers, secret=SECRET)
        assert [(path, seen["webhook-id"]) for path, seen, _ in receiver.seen] == [("/hook", headers["webhook-id"])] * 2
        server.stop()


def test_webhooks_go_by_tls_to_those_alone_whose_certificate_is_right(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    named, misnamed = authority.issue_cert("localhost"), authority.issue_cert("elsewhere.example")
    unknown = trustme.CA().issue_cert("localhost")
    with Receiver(named) as receiver, Receiver(misnamed) as other, Receiver(unknown) as stranger:
        urls = [word for it in (receiver, other, stranger) for word in ("--webhook", it.url)]
        server = Server(tmp_path, *urls, "--webhook-ca", tmp_path / "authority.pem", TAPER_WEBHOOK_SECRET=SECRET)
        with connect(server.url) as client:
            file = client.files.create(file=("a.jsonl", tiny_bert.jsonl(tiny_bert.reviews(8))), purpose="fine-tune")
            [(headers, body)] = told(receiver, wait(client, create(client, file, training=QUICK)))
            client.webhooks.unwrap(body, headers, secret=SECRET)

        def refused(url, why):
            return [line for line in server.log().splitlines() if "a webhook was not taken" in line and url in line and why in line]

        for it, why in [(other, "certificate not valid for name"), (stranger, "UnknownIssuer")]:
            until(lambda: refused(it.url, why), server.log)
            assert not it.seen
        server.stop()


def test_what_is_not_served_is_an_error_like_others(client):
    with pytest.raises(openai.NotFoundError) as caught:
        list(client.fine_tuning.checkpoints.permissions.list("ft:x:ckpt-step-1"))
    assert caught.value.code == "unknown_url" and caught.value.request_id
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.alpha.graders.validate(grader={})
