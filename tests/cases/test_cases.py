"""Small inputs made after public bug reports of other tools, each with what is right. Numbers of tokens were checked with jinja2 and tokenizers."""

import json
import time

import pytest


def near(one, other):
    return abs(one - other) <= 1e-6 * max(1, abs(one))


# Data files


@pytest.mark.parametrize("name", ["c03.csv", "c03.jsonl"])
def test_words_for_nothing_are_class_names(server, name):
    plan = server.plan("bt", name)
    assert [it["name"] if isinstance(it, dict) else it for it in plan["classes"]] == ["NA", "None", "null", "yes"]
    assert plan["training_rows"] == 4


@pytest.mark.parametrize("name", ["c04a.jsonl", "c04b.jsonl", "c04c.csv"])
def test_two_classes_stay_two_however_they_are_written(server, name):
    assert len(server.plan("bt", name)["classes"]) == 2


def test_each_bad_label_is_told_with_its_reason(server):
    message, param = server.refused("bt", "c04d.jsonl")
    assert param == "training_file"
    assert "line 1" in message and "null" in message and "line 4" in message and "JSON" in message


def test_a_json_array_is_taken_or_called_one(server):
    status, answer = server.create("ll", "c05.json", dry=True)
    taken = status == 200 and answer["training_rows"] == 4
    assert taken or ("array" in answer["error"]["message"] and "more bad lines" not in answer["error"]["message"])


def test_marks_and_line_breaks_of_unicode_tear_no_row(server):
    assert server.plan("bt", "c06.jsonl")["training_rows"] == 2
    assert "UTF-16" in server.refused("bt", "c06-utf16.jsonl")[0]
    message, _ = server.refused("bt", "c06-surrogate.jsonl")
    assert "line 2" in message and "line 1" not in message


def test_parquet_of_large_view_and_dictionary_types(server):
    plans = [server.plan("bt", name) for name in ("c07.jsonl", "c07a.parquet")]
    for field in ("training_rows", "training_tokens", "classes"):
        assert plans[0][field] == plans[1][field]
    assert server.plan("ll", "c07b.parquet")["training_tokens"] == 25
    message, _ = server.refused("bt", "c07c.parquet")
    assert "row 2" in message or "line 2" in message


def test_content_as_parts(server):
    for name in ("c08-plain.jsonl", "c08-parts.jsonl"):
        plan = server.plan("ll", name)
        assert (plan["training_tokens"], plan["label_tokens"]) == (34, 4)
    message, _ = server.refused("ll", "c08-image.jsonl")
    assert "line 2" in message and "message 1" in message and "image_url" in message


# Chats, templates, tokens


@pytest.mark.parametrize(
    "model, name, tokens, labels",
    [
        ("ll-think", "c11.jsonl", 63, 23),
        ("ll-nn", "c12.jsonl", None, 6),
        ("ll-args", "c13-string.jsonl", 30, None),
        ("ll-args", "c13-object.jsonl", 30, None),
        ("ll-first", "c14-greeting.jsonl", 61, None),
        ("ll", "c15.jsonl", 25, 4),
    ],
)
def test_what_is_trained_is_what_the_template_writes(server, model, name, tokens, labels):
    plan = server.plan(model, name)
    assert tokens in (None, plan["training_tokens"]) and labels in (None, plan["label_tokens"])


def test_arguments_that_are_no_json(server):
    message, _ = server.refused("ll-args", "c13-broken.jsonl")
    assert "line 2" in message and "message 2" in message and "arguments" in message


def test_the_template_s_own_objection_is_told_by_line(server):
    message, _ = server.refused("ll-alternate", "c14-middle.jsonl")
    assert "line 2" in message


def test_padding_with_the_end_token_masks_no_end(server):
    plans = [server.plan(model, "c16a.jsonl") for model in ("ll", "ll-padeos")]
    assert plans[0]["label_tokens"] == plans[1]["label_tokens"]
    training = {"num_train_epochs": 200, "learning_rate": 0.01}
    job = server.job("ll-padeos", "c19.jsonl", valid="c19.jsonl", tuning={"type": "full"}, training=training)
    events = json.loads(server.request("GET", f"/v1/fine_tuning/jobs/{job}/events?limit=100")[1])["data"]
    samples = [event["data"]["samples"] for event in events if (event.get("data") or {}).get("samples")]
    assert samples and all(sample["completion"] == sample["reference"] for sample in samples[0])


# Model folders


@pytest.mark.parametrize("model", ["ll-orig", "ll-module"])
def test_prefixes_of_wrappers(server, model):
    assert near(server.base_loss("ll"), server.base_loss(model))


def test_old_names_of_bert(server):
    losses = [server.base_loss(model, "c20.jsonl", "c20.jsonl") for model in ("bt", "bt-gamma")]
    assert near(*losses)


def test_a_head_that_is_not_stored(server):
    message, param = server.refused("ll-nohead", "c16a.jsonl")
    assert param == "model" and "lm_head.weight" in message and "tie_word_embeddings" in message
    server.plan("ll-nohead", "c20.jsonl")


def test_rope_in_its_old_and_new_places(server):
    losses = {name: server.base_loss(f"ll-rope-{name}") for name in "abcde"}
    assert near(losses["a"], losses["b"]) and near(losses["a"], losses["e"]) and near(losses["c"], losses["d"])
    assert not near(losses["a"], server.base_loss("ll"))
    assert "yarn" in server.refused("ll-rope-f", "c16a.jsonl")[0]


def test_positions_of_roberta(server):
    message, param = server.refused("rb", "c38.jsonl", training={"max_length": 66})
    assert param == "training.max_length" and "64" in message
    server.plan("rb", "c38.jsonl", training={"max_length": 64})
    assert "pad_token_id" in server.refused("rb-pad3", "c38.jsonl")[0]


def test_a_token_beyond_the_embeddings(server):
    message, _ = server.refused("ll-added", "c29.jsonl")
    assert all(part in message for part in ("line 2", "<tool>", "264"))
    server.plan("ll-added", "c16a.jsonl")


# What training means


def test_accumulated_batches_weigh_every_token_alike(server):
    def numbers(batch, passes):
        training = {"num_train_epochs": 2, "learning_rate": 0.01, "seed": 3}
        training |= {"per_device_train_batch_size": batch, "gradient_accumulation_steps": passes}
        return server.adapter(server.job("ll", "c32.jsonl", tuning={"type": "lora", "lora_dropout": 0}, training=training))[1]

    whole, *parts = numbers(8, 1), numbers(2, 4), numbers(1, 8)
    largest = max(map(abs, whole))
    assert all(abs(one - other) <= 1e-5 * largest for part in parts for one, other in zip(whole, part))


def test_evaluation_does_not_depend_on_the_batch_size(server):
    losses = [server.base_loss("ll", "c32.jsonl", per_device_train_batch_size=size) for size in (1, 3, 7)]
    assert near(losses[0], losses[1]) and near(losses[0], losses[2])
    message, param = server.refused("ll", "c16a.jsonl", valid="c33-masked.jsonl")
    assert param == "validation_file" and "line 2" in message


def test_the_best_model_is_published(server):
    training = {"learning_rate": 0.05, "max_steps": 40, "eval_steps": 3, "save_steps": 5, "save_total_limit": 1}
    training |= {"load_best_model_at_end": True, "metric_for_best_model": "valid_loss"}
    job = server.job("bt", "c20.jsonl", valid="c20.jsonl", tuning={"type": "full"}, training=training)
    rows = server.table(job, "validation_rows.csv")
    weights = [float(row["label_tokens"]) for row in rows]
    mean = sum(float(row["loss"]) * weight for row, weight in zip(rows, weights)) / sum(weights)
    assert near(mean, min(server.valid_losses(job)))


def test_virtual_tokens_take_their_room(server):
    def tuning(count):
        return {"type": "prompt_tuning", "num_virtual_tokens": count}

    plan = server.plan("bt", "c38.jsonl", tuning=tuning(20))
    assert plan["truncated_rows"] == 8 and [warning["code"] for warning in plan["warnings"]].count("truncated_rows") == 1
    assert "44" in server.refused("bt", "c38.jsonl", tuning=tuning(20), training={"max_length": 64})[0]
    assert server.refused("bt", "c38.jsonl", tuning=tuning(64))[1] == "tuning.num_virtual_tokens"


@pytest.mark.parametrize("setting", [{"target_modules": ["q_proj", "lm_head"]}, {"modules_to_save": ["lm_head"]}, {"modules_to_save": ["embed_tokens"]}])
def test_tied_tables_are_called_tied(server, setting):
    message, param = server.refused("ll-tied", "c16a.jsonl", tuning={"type": "lora"} | setting)
    assert "tied" in message and param == f"tuning.{next(iter(setting))}"


def test_a_whole_module_in_an_adapter_is_warned_of(server):
    plan = server.plan("ll", "c16a.jsonl", tuning={"type": "lora", "modules_to_save": ["lm_head"]})
    assert any("vLLM" in warning["message"] and "llama.cpp" in warning["message"] for warning in plan["warnings"])


def test_a_saturated_run_goes_on_after_a_pause(server):
    training = {"learning_rate": 1.0, "max_steps": 1500, "logging_steps": 100}
    status, job = server.create("bt", "c20.jsonl", tuning={"type": "full"}, training=training)
    assert status == 200, job
    server.wait(job["id"], "running", "succeeded")
    time.sleep(0.1)
    path = f"/v1/fine_tuning/jobs/{job['id']}"
    if server.request("POST", f"{path}/pause", b"")[0] == 200:
        server.wait(job["id"], "paused", "succeeded")
        server.request("POST", f"{path}/resume", b"")
    ended = server.wait(job["id"], "succeeded", "failed")
    assert ended["status"] == "succeeded", ended["error"]


# Results that others load


@pytest.mark.parametrize("more, warned", [({}, False), ({"use_rslora": True, "r": 8}, True), ({"rank_pattern": {"q_proj": 12}}, True)])
def test_adapters_that_other_readers_take(server, more, warned):
    tuning = {"type": "lora"} | more
    assert bool(server.plan("ll", "c16a.jsonl", tuning=tuning)["warnings"]) == warned
    job = server.job("ll", "c16a.jsonl", tuning=tuning, training={"max_steps": 2})
    config = json.loads(server.artifact(job, "adapter/adapter_config.json"))
    assert isinstance(config["lora_alpha"], int) and config["modules_to_save"] is None and config["bias"] == "none"
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in server.adapter(job)[0])


# The API


def test_absent_fields_may_be_null(server):
    body = {"model": "bt", "training_file": server.upload("c20.jsonl"), "suffix": None, "validation_file": None, "seed": None}
    body |= {"method": None, "integrations": None, "hyperparameters": {"n_epochs": None, "batch_size": "auto"}}
    status, job = server.post("/v1/fine_tuning/jobs", body)
    assert status == 200 and job["fine_tuned_model"] is None
    assert set(job["hyperparameters"]) >= {"n_epochs", "batch_size", "learning_rate_multiplier"}
    status, answer = server.post("/v1/fine_tuning/jobs", body | {"custom_llm_provider": "openai"})
    assert status == 400 and "custom_llm_provider" in answer["error"]["message"]


def test_azure_s_client(server):
    status, _ = server.request("GET", "/v1/fine_tuning/jobs?api-version=2024-10-21", None, {"api-key": "x"})
    assert status == 200


@pytest.mark.parametrize("kind", ["dpo", "reinforcement"])
def test_methods_that_are_not_there_yet(server, kind):
    body = {"model": "bt", "training_file": server.upload("c20.jsonl"), "method": {"type": kind}}
    status, answer = server.post("/v1/fine_tuning/jobs", body)
    assert (status, answer["error"]["param"]) == (400, "method.type") and "not supported yet" in answer["error"]["message"]


@pytest.mark.parametrize("setting", [{"batch_size": 300}, {"n_epochs": 60}])
def test_openai_s_bounds_are_called_so(server, setting):
    body = {"model": "bt", "training_file": server.upload("c20.jsonl"), "hyperparameters": setting}
    status, answer = server.post("/v1/fine_tuning/jobs", body)
    assert status == 400 and "OpenAI" in answer["error"]["message"] and "training." in answer["error"]["message"]


# Without a report


def test_a_column_given_twice(server):
    message, _ = server.refused("bt", "x1.csv")
    assert "line 1" in message and "label" in message


def test_semicolons(server):
    status, answer = server.create("bt", "x2.csv", dry=True)
    assert status == 200 or "';'" in answer["error"]["message"] or "`;`" in answer["error"]["message"], answer


def test_older_calls_are_read_or_named(server):
    status, answer = server.create("ll-args", "x3.jsonl", dry=True)
    assert status == 200 or "line 1" in answer["error"]["message"], answer


def test_two_forms_of_one_letter_are_warned_of(server):
    plan = server.plan("bt", "x4.jsonl")
    assert any(warning["code"] == "similar_labels" for warning in plan["warnings"])
