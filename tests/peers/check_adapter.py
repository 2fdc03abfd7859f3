"""Loads what taper has written in PEFT or transformers and compares what it computes, row by row, with taper's own figures.

    python check_adapter.py BASE_MODEL_DIR RESULT EVAL_PREDICTIONS.jsonl VALIDATION.jsonl

RESULT is a folder or the adapter.zip of a job: a PEFT adapter, or a whole model; a classifier of {"text", "label"} is compared by its logits,
a language model of {"prompt", "completion"} by the loss of each row. A warning of PEFT is an error, and so is a key that is missing or
unexpected, on either side, a tensor that is zero, and a figure that differs by more than 1e-4.
"""

import json
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

TOLERANCE = 1e-4
AUTO = {"SEQ_CLS": AutoModelForSequenceClassification, "CAUSAL_LM": AutoModelForCausalLM}
Row = dict


def rows_of(path: str | Path) -> list[Row]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


def task_of(folder: Path) -> str:
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        return json.loads(adapter.read_text())["task_type"]
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    return "SEQ_CLS" if architecture.endswith("ForSequenceClassification") else "CAUSAL_LM"


def load_adapter(base: torch.nn.Module, adapter: Path) -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # About PEFT itself, which asks transformers for something by a former name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        model = PeftModel.from_pretrained(base, adapter)
    stored = load_file(adapter / "adapter_model.safetensors")
    loaded = get_peft_model_state_dict(model)
    assert stored.keys() == loaded.keys(), stored.keys() ^ loaded.keys()
    for name, tensor in stored.items():
        assert torch.equal(tensor, loaded[name].cpu()), f"{name} was not loaded"
        assert tensor.any(), f"{name} was not trained"
    return model


def load_model(folder: Path, task: str) -> torch.nn.Module:
    model, report = AUTO[task].from_pretrained(folder, output_loading_info=True)
    complaints = {name: keys for name, keys in report.items() if keys}
    assert not complaints, complaints
    return model


def load(base: str | Path, folder: Path, task: str, classes: int) -> torch.nn.Module:
    if not (folder / "adapter_config.json").exists():
        return load_model(folder, task).eval()
    more = {"num_labels": classes} if task == "SEQ_CLS" else {}
    return load_adapter(AUTO[task].from_pretrained(base, **more), folder).eval()


def batch_size(model: torch.nn.Module) -> int:
    """One row where the model cannot tell padding: a decoder in which virtual tokens are put before the embeddings."""
    prompted = isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning
    return 1 if prompted and hasattr(model.get_base_model(), "score") else 32


@torch.inference_mode()
def logits_of(model: torch.nn.Module, tokenizer, texts: list[str], max_length: int) -> torch.Tensor:
    if model.config.pad_token_id is not None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(model.config.pad_token_id)
    elif tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    parts, size = [], batch_size(model)
    for start in range(0, len(texts), size):
        batch = tokenizer(texts[start : start + size], truncation=True, max_length=max_length, padding=True, return_tensors="pt")
        parts.append(model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits)
    return torch.cat(parts)


def completion_of(tokenizer, row: Row) -> tuple[list[int], int]:
    """The tokens of prompt and completion as one text with its end token, and how many of them are given."""
    encoded = tokenizer(row["prompt"] + row["completion"], return_offsets_mapping=True)
    border = len(row["prompt"])
    given = next((i for i, (start, end) in enumerate(encoded["offset_mapping"]) if end > border), len(encoded["input_ids"]))
    return encoded["input_ids"] + [tokenizer.eos_token_id], given


@torch.inference_mode()
def losses_of(model: torch.nn.Module, tokenizer, rows: list[Row]) -> torch.Tensor:
    """The mean loss over the completion and the end token, by row."""
    losses = []
    for row in rows:
        ids, given = completion_of(tokenizer, row)
        labels = torch.tensor([[-100] * given + ids[given:]])
        ids = torch.tensor([ids])
        losses.append(model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss)
    return torch.stack(losses)


def compare_classes(model: torch.nn.Module, tokenizer, about: dict, predictions: list[Row], validation: list[Row]) -> str:
    names = [about["id2label"][str(i)] for i in range(about["num_labels"])]
    if not isinstance(model, PeftModel):
        assert [model.config.id2label[i] for i in range(len(names))] == names
    assert [str(row["label"]) for row in validation] == [row["label"] for row in predictions]
    max_length = about["spec"]["training"]["max_length"]
    got = logits_of(model, tokenizer, [row["text"] for row in validation], max_length)
    worst = (got - torch.tensor([row["logits"] for row in predictions])).abs().max().item()
    right = sum(names[i] == row["label"] for i, row in zip(got.argmax(-1).tolist(), predictions)) / len(predictions)
    told = about["metrics"]["valid_accuracy"]
    assert worst <= TOLERANCE, f"the logits differ by {worst}"
    assert abs(right - told) < 1e-9, f"the accuracy is {right}, taper says {told}"
    return f"logits differ by at most {worst:.1e}, accuracy {right:.4f}"


def compare_losses(model: torch.nn.Module, tokenizer, about: dict, predictions: list[Row], validation: list[Row]) -> str:
    got = losses_of(model, tokenizer, validation)
    tokens = torch.tensor([row["tokens"] for row in predictions])
    worst = (got - torch.tensor([row["loss"] for row in predictions])).abs().max().item()
    mean, told = ((got * tokens).sum() / tokens.sum()).item(), about["metrics"]["valid_loss"]
    assert worst <= TOLERANCE, f"the losses of rows differ by {worst}"
    assert abs(mean - told) <= TOLERANCE, f"the loss is {mean}, taper says {told}"
    return f"losses of rows differ by at most {worst:.1e}, loss {mean:.4f}"


def compare(base: str | Path, folder: Path, predictions: list[Row], validation: list[Row]) -> str:
    """What was compared, in words."""
    about = json.loads((folder / "taper_job.json").read_text())
    task = task_of(folder)
    assert len(predictions) == len(validation), f"{len(predictions)} predictions for {len(validation)} rows"
    model = load(base, folder, task, about.get("num_labels") or 0)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    check = compare_classes if task == "SEQ_CLS" else compare_losses
    told = check(model, tokenizer, about, predictions, validation)
    return f"{'adapter' if isinstance(model, PeftModel) else 'model'}, {len(predictions)} rows: {told}"


def main(base: str, result: str, predictions: str, validation: str) -> None:
    with tempfile.TemporaryDirectory() as unpacked:
        folder = Path(result)
        if folder.is_file():
            with zipfile.ZipFile(folder) as archive:
                archive.extractall(unpacked)
            folder = Path(unpacked)
        print(compare(base, folder, rows_of(predictions), rows_of(validation)))


if __name__ == "__main__":
    main(*sys.argv[1:])
