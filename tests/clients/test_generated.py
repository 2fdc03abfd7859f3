"""A client that openapi-python-client makes from the description of the API, as others would, against the real server."""

import importlib
import io
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import tiny_bert
from conftest import MODEL

DESCRIPTION = Path(__file__).parents[2] / "openapi" / "openapi.json"


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """The package that is made; what its maker cannot name it says, and that is nothing."""
    folder = tmp_path_factory.mktemp("generated")
    config = folder / "config.yml"
    config.write_text("post_hooks: []\npackage_name_override: taper_client\n")
    command = [Path(sys.executable).parent / "openapi-python-client", "generate", "--path", DESCRIPTION, "--config", config]
    made = subprocess.run([*command, "--output-path", folder / "client"], capture_output=True, text=True)
    assert made.returncode == 0 and "WARNING" not in made.stdout.upper(), made.stdout + made.stderr
    sys.path.insert(0, str(folder / "client"))
    yield lambda name: importlib.import_module(f"taper_client.{name}")
    sys.path.remove(str(folder / "client"))


def test_a_job_from_the_upload_to_the_download(generated, server):
    models, types = generated("models"), generated("types")
    call = lambda tag, name, *path, **rest: generated(f"api.{tag}.{name}").sync(*path, client=client, **rest)
    with generated("client").Client(base_url=server.url, raise_on_unexpected_status=True) as client:
        rows = tiny_bert.jsonl(tiny_bert.reviews(24))
        form = models.UploadForm(purpose="fine-tune", file=types.File(io.BytesIO(rows), "rows.jsonl", "application/jsonl"))
        file = call("files", "create_file", body=form)
        assert isinstance(file, models.FileObject) and file.bytes_ == len(rows)
        assert call("files", "download_file", file.id).payload.read() == rows

        tuning = models.CreateTuningLora(type_=models.CreateTuningLoraType.LORA, r=4)
        body = models.CreateFineTuningJob(
            model=MODEL, training_file=file.id, tuning=tuning, training=models.CreateTraining(max_steps=2)
        )
        plan = call("fine_tuning", "create_job", body=body, dry_run=True)
        assert isinstance(plan, models.PlanObject) and plan.training_rows == 24 and plan.memory_bytes > 0
        job = call("fine_tuning", "create_job", body=body)
        end = time.monotonic() + 60
        while job.status not in {"succeeded", "failed"}:
            assert time.monotonic() < end, job
            time.sleep(0.1)
            job = call("fine_tuning", "find_job", job.id)
        assert isinstance(job, models.FineTuningJob) and job.status == "succeeded", job
        assert isinstance(job.tuning, models.TuningLora) and job.tuning.r == 4 and job.training.max_steps == 2
        assert job.id in [listed.id for listed in call("fine_tuning", "list_jobs").data]
        assert call("fine_tuning", "list_events", job.id).data[0].object_ == "fine_tuning.job.event"
        with zipfile.ZipFile(call("fine_tuning", "download_archive", job.id).payload) as archive:
            assert "adapter_model.safetensors" in archive.namelist()


def test_an_experiment_and_an_error(generated, server):
    models = generated("models")
    call = lambda tag, name, *path, **rest: generated(f"api.{tag}.{name}").sync(*path, client=client, **rest)
    with generated("client").Client(base_url=server.url) as client:
        form = models.UploadForm(
            purpose="fine-tune",
            file=generated("types").File(io.BytesIO(tiny_bert.jsonl(tiny_bert.reviews(24))), "rows.jsonl"),
        )
        file = call("files", "create_file", body=form)
        body = models.CreateExperiment(
            model=MODEL,
            training_file=file.id,
            methods="all",
            strategy="all",
            budget=models.BudgetMaxSteps(max_steps=2),
            training=models.CreateTraining(eval_split=0.25),
        )
        plan = call("experiments", "create_experiment", body=body, dry_run=True)
        assert isinstance(plan, models.ExperimentPlan) and len(plan.configurations) > 2, plan
        error = call("fine_tuning", "find_job", "ftjob-none")
        assert isinstance(error, models.ErrorBody) and error.error.param == "id"
