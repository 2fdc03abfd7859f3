"""Keys through the official Python client: what is refused comes as the exception that the client has for it."""

import openai
import pytest

import tiny_bert
from conftest import Server, connect
from test_openai import create, wait

ROWS = tiny_bert.jsonl(tiny_bert.reviews(40))
QUICK = {"max_steps": 1}


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A server with a key for each of two projects, and one to look at the first."""
    server = Server(tmp_path_factory.mktemp("closed"))
    keys = {
        name: server.keys("create", "--role", role, "--project", project)
        for name, role, project in [("films", "submit", "films"), ("reader", "read", "films"), ("books", "submit", "books")]
    }
    yield server, keys
    server.stop()


def upload(client):
    return client.files.create(file=("train.jsonl", ROWS), purpose="fine-tune")


def test_without_a_key_nothing_is_answered(closed):
    server, keys = closed
    for key in ["unused", keys["films"][:-1], keys["films"].upper()]:
        with connect(server.url, key) as client, pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
        assert caught.value.code == "invalid_api_key" and caught.value.request_id.startswith("req_")


def test_azure_s_client(closed):
    server, keys = closed
    for key, lets_in in [(keys["films"], True), ("unused", False)]:
        with openai.AzureOpenAI(base_url=f"{server.url}/v1", api_key=key, api_version="2024-10-21") as client:
            if lets_in:
                assert client.fine_tuning.jobs.list(limit=1).object == "list"
            else:
                with pytest.raises(openai.AuthenticationError):
                    client.fine_tuning.jobs.list()


def test_a_base_url_without_v1(closed):
    server, keys = closed
    with openai.OpenAI(base_url=server.url, api_key=keys["films"]) as client, pytest.raises(openai.NotFoundError) as caught:
        client.fine_tuning.jobs.list()
    assert "did you mean /v1/fine_tuning/jobs?" in caught.value.message


def test_a_project_is_its_own(closed):
    server, keys = closed
    with connect(server.url, keys["films"]) as films, connect(server.url, keys["books"]) as books:
        file = upload(films)
        job = wait(films, create(films, file, training=QUICK))
        assert job.fine_tuned_model.split(":")[2] == "films" and job.organization_id == "org-films"
        for asked in [
            lambda: books.files.retrieve(file.id),
            lambda: books.files.content(file.id),
            lambda: books.files.delete(file.id),
            lambda: books.fine_tuning.jobs.retrieve(job.id),
            lambda: books.fine_tuning.jobs.cancel(job.id),
            lambda: books.fine_tuning.jobs.list_events(job.id),
            lambda: books.models.retrieve(job.fine_tuned_model),
            lambda: books.models.delete(job.fine_tuned_model),
        ]:
            with pytest.raises(openai.NotFoundError):
                asked()
        with pytest.raises(openai.BadRequestError) as caught:
            create(books, file, training=QUICK)
        assert caught.value.param == "training_file"
        assert not books.files.list().data and not books.fine_tuning.jobs.list().data
        assert job.fine_tuned_model not in [model.id for model in books.models.list()]
        assert job.fine_tuned_model in [model.id for model in films.models.list()]


def test_a_reader_looks_and_changes_nothing(closed):
    server, keys = closed
    with connect(server.url, keys["films"]) as films, connect(server.url, keys["reader"]) as reader:
        file = upload(films)
        assert reader.files.retrieve(file.id) == file and reader.files.content(file.id).read() == ROWS
        for asked in [lambda: reader.files.delete(file.id), lambda: upload(reader), lambda: create(reader, file)]:
            with pytest.raises(openai.PermissionDeniedError) as caught:
                asked()
            assert caught.value.code == "insufficient_permissions"


def test_a_key_that_is_revoked_is_out_at_once(closed):
    server, _ = closed
    key = server.keys("create", "--role", "admin", "--name", "for a moment")
    with connect(server.url, key) as client:
        client.models.list()
        listed = next(line for line in server.keys("list").splitlines() if "for a moment" in line)
        assert "admin" in listed and "(all)" in listed
        server.keys("revoke", key.split("-")[1])
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
        assert "revoked" in server.keys("list") and key.split("-")[2] not in server.keys("list")
